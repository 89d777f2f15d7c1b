"""`hubbub connect URL`: talk to a WebSocket server from the terminal, or from a pipe."""

import asyncio
import sys
from typing import Annotated

import typer
from websockets.asyncio.client import connect as open_connection

from hubbub import __version__
from hubbub.cli.address import ServerAddress
from hubbub.cli.conversation import Conversation, WatchedConnection
from hubbub.cli.dialing import OPEN_TIMEOUT, dialing, tls_context
from hubbub.cli.failure import USAGE, Failure
from hubbub.cli.headers import TOKEN, HeaderOption, is_header_value, parse_header
from hubbub.cli.limits import number_from
from hubbub.cli.loops import thread_safe
from hubbub.cli.options import InsecureOption, UrlArgument
from hubbub.cli.signals import on_stop_signals
from hubbub.cli.standard_input import lines
from hubbub.cli.transcript import PlainTranscript, Transcript

__all__ = ["connect"]

MAX_SIZE = 2**24
"""Largest message that is shown, in bytes."""

MAX_WAIT = 3600
"""Longest `--wait` in seconds."""

# Longest time that the server gets to answer our close frame, in seconds.
_CLOSE_TIMEOUT = 2.0

# Headers that have an option of their own.
_HEADER_OPTIONS = {"origin": "--origin", "sec-websocket-protocol": "--subprotocol"}


def connect(
    url: UrlArgument,
    header: HeaderOption = None,
    origin: Annotated[str | None, typer.Option(help="Value of the Origin header.")] = None,
    subprotocol: Annotated[
        list[str] | None, typer.Option(help="Subprotocol to offer. Repeatable, best first.")
    ] = None,
    insecure: InsecureOption = False,
    wait: Annotated[
        float,
        typer.Option(
            parser=number_from(0, MAX_WAIT),
            metavar="<float>",
            help=f"Seconds to wait for replies after piped input, up to {MAX_WAIT}.",
        ),
    ] = 1.0,
) -> int:
    """Send lines to a WebSocket server and see what it sends.

    In a terminal, type lines; Ctrl+D or Ctrl+C closes.

    From a pipe, every line is sent; messages go to standard output, notices to standard error.
    """
    address = ServerAddress.parse(url)
    headers = [parse_header(text, _HEADER_OPTIONS) for text in header or []]
    for name in subprotocol or []:
        if not TOKEN.fullmatch(name):
            raise Failure(f"--subprotocol: '{name}' is not a name of letters, digits, - . _", USAGE)
    if origin is not None and not is_header_value(origin):
        raise Failure(f"--origin: '{origin}' is not the value of a header", USAGE)
    opening = open_connection(
        address.url,
        additional_headers=headers,
        origin=origin,  # type: ignore[arg-type]  # a NewType of str
        subprotocols=subprotocol or None,  # type: ignore[arg-type]  # the same
        user_agent_header=f"hubbub/{__version__}",
        ssl=tls_context(address, insecure=insecure),
        proxy=None if address.is_loopback else True,
        create_connection=WatchedConnection,
        open_timeout=OPEN_TIMEOUT,
        close_timeout=_CLOSE_TIMEOUT,
        max_size=MAX_SIZE,
    )
    # asyncio's own loop: prompt_toolkit is made for it, and nothing here is hot.
    return asyncio.run(_connect(opening, address, wait))


async def _connect(opening: open_connection, address: ServerAddress, wait: float) -> int:
    with dialing(address):
        connection = await opening
    assert isinstance(connection, WatchedConnection)
    stop = asyncio.Event()
    ask = thread_safe(stop.set)
    transcript: Transcript
    if sys.stdin.isatty() and sys.stdout.isatty():
        # Costly to import, see there.
        from hubbub.cli.terminal import TerminalTranscript, terminal_restorer, typed_lines

        on_stop_signals(ask, terminal_restorer())
        transcript, source, wait = TerminalTranscript(), typed_lines(), 0.0
        hint = "; Ctrl+D closes"
    else:
        on_stop_signals(ask)
        transcript, source, hint = PlainTranscript(stop.set), lines(), ""
    chosen = f", subprotocol {connection.subprotocol}" if connection.subprotocol else ""
    await transcript.notice(f"connected to {address}{chosen}{hint}")
    return await Conversation(connection, source, transcript, wait).run(stop)
