"""`hubbub tap URL CHANNEL…`: watch what happens in channels of a running hub."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from hubbub.cli.failure import FAILED, USAGE, Failure
from hubbub.cli.following import Follower, Interest
from hubbub.cli.headers import HeaderOption, parse_header
from hubbub.cli.hub_dialing import HubDialer, hub_address
from hubbub.cli.limits import number_from, whole_number_from
from hubbub.cli.loops import run_async, thread_safe
from hubbub.cli.options import InsecureOption, UrlArgument
from hubbub.cli.signals import on_stop_signals
from hubbub.cli.view import View
from hubbub.errors import PayloadError
from hubbub.protocol import json as json_codec
from hubbub.protocol.values import EMPTY

__all__ = ["tap"]

MAX_HISTORY: Final = 10_000
"""Most `--history`; a hub may give less."""

MAX_COUNT: Final = 1_000_000_000
"""Most `--count`."""

MAX_WAIT: Final = 604_800
"""Longest `--wait` in seconds, a week."""

MAX_TOKEN_FILE: Final = 65_536
"""Largest token file in bytes."""


def _json(text: str) -> Any:
    try:
        return json_codec.embed(text.encode())
    except (PayloadError, UnicodeEncodeError) as exc:
        raise typer.BadParameter(f"is not JSON: {exc}") from None


def tap(
    context: typer.Context,
    url: UrlArgument,
    channels: Annotated[list[str], typer.Argument(metavar="CHANNEL", help="Names of channels.")],
    history: Annotated[
        int,
        typer.Option(
            parser=whole_number_from(0, MAX_HISTORY),
            metavar="<int>",
            help="Publications of each channel's history to begin with.",
        ),
    ] = 0,
    count: Annotated[
        int | None,
        typer.Option(
            parser=whole_number_from(1, MAX_COUNT),
            metavar="<int>",
            help="End after so many publications.",
        ),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(
            parser=number_from(0, MAX_WAIT),
            metavar="<float>",
            help="End after so many seconds; with code 1 if --count has not been reached.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    join_leave: Annotated[
        bool, typer.Option("--join-leave/--no-join-leave", help="Show who joins and leaves.")
    ] = True,
    rates: Annotated[
        bool,
        typer.Option("--rates/--no-rates", help="Show rates in the terminal, each second anew."),
    ] = True,
    token: Annotated[
        str,
        typer.Option(
            envvar="HUBBUB_TOKEN",
            show_default=False,
            help="Connection token (JWT). Better in the environment: others on this machine can"
            " read command lines.",
        ),
    ] = "",
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token, read again at each connect.")
    ] = None,
    data: Annotated[
        Any, typer.Option(parser=_json, metavar="<json>", help="Data for the hub's connect hook.")
    ] = None,
    header: HeaderOption = None,
    insecure: InsecureOption = False,
) -> int:
    """Watch channels of a hub: publications, joins and leaves, as they happen.

    A connection that is lost is replaced, and what was missed is caught up.

    Works with every server of the Centrifuge client protocol. Ctrl+C ends it.
    """
    address = hub_address(url)
    headers = [parse_header(text) for text in header or []]
    dialer = HubDialer([address], headers=headers, insecure=insecure)
    interest = Interest(
        channels=_unique(channels),
        data=EMPTY if data is None else data,
        token=_token_source(context, token, token_file),
        history=history,
        join_leave=join_leave,
    )
    return run_async(_tap(dialer, interest, _Showing(as_json, rates, count), wait))


def _unique(channels: Sequence[str]) -> list[str]:
    for name in channels:
        if not name or not name.isprintable():
            raise Failure(f"'{name}' is not the name of a channel", USAGE)
    return list(dict.fromkeys(channels))


def _token_source(context: typer.Context, token: str, path: Path | None) -> Callable[[], str]:
    """Return what knows the token; the command line goes before the environment."""
    if path is None:
        return lambda: token
    source = context.get_parameter_source("token")
    if source is not None and source.name == "COMMANDLINE":
        raise Failure("--token and --token-file contradict each other: give one of them", USAGE)
    return lambda: _read_token(path)


def _read_token(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TOKEN_FILE + 1)
        text = data.decode("ascii").strip()
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no token"
        raise Failure(f"--token-file: '{path}' cannot be read: {reason}") from exc
    if len(data) > MAX_TOKEN_FILE:
        raise Failure(f"--token-file: '{path}' is larger than {MAX_TOKEN_FILE} bytes")
    return text


@dataclass(frozen=True, slots=True)
class _Showing:
    """What is shown, and how much of it."""

    as_json: bool
    rates: bool
    count: int | None


async def _tap(
    dialer: HubDialer,
    interest: Interest,
    showing: _Showing,
    wait: float | None,
) -> int:
    stop = asyncio.Event()
    on_stop_signals(thread_safe(stop.set))
    view = View(interest.channels, stop, as_json=showing.as_json, count=showing.count)
    shows_rates = showing.rates and view.can_show_rates
    interest = replace(interest, members=shows_rates and interest.join_leave)
    follower = Follower(dialer, interest, view)
    failure: Failure | None = None

    async def follow() -> None:
        nonlocal failure
        try:
            await follower.run()
        except Failure as exc:
            failure = exc
            stop.set()

    is_late = False
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(follow())]
        if shows_rates:
            tasks.append(group.create_task(view.show_rates(lambda: follower.members)))
        try:
            async with asyncio.timeout(wait):
                await stop.wait()
        except TimeoutError:
            is_late = True
        for task in tasks:
            task.cancel()
    if follower.is_following:
        view.sum_up()
    if failure is not None:
        raise failure
    return FAILED if is_late and showing.count and not view.is_complete else 0
