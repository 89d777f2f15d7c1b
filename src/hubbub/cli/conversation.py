"""A conversation with a WebSocket server: lines go out, messages come in, one side ends it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response

from hubbub.cli.failure import FAILED, Failure
from hubbub.cli.transcript import Transcript, describe_bytes

__all__ = ["Conversation", "WatchedConnection"]

# Pings and pongs that wait to be shown; more are not shown: a server must not fill our memory.
_MAX_CONTROLS: Final = 64


class WatchedConnection(ClientConnection):
    """A client's connection that tells of the pings and pongs it receives."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.controls: asyncio.Queue[str] = asyncio.Queue(_MAX_CONTROLS)

    def process_event(self, event: Request | Response | Frame) -> None:
        """Note control frames; everything is handled as ever."""
        super().process_event(event)
        if isinstance(event, Frame) and event.opcode in {Opcode.PING, Opcode.PONG}:
            payload = f" with {describe_bytes(bytes(event.data))}" if event.data else ""
            with contextlib.suppress(asyncio.QueueFull):
                self.controls.put_nowait(f"{event.opcode.name.lower()} received{payload}")


class Conversation:
    """One connection from open to closed.

    Args:
        connection: Open; it is closed in the end.
        lines: What to send; closed in the end.
        transcript: Where everything is shown.
        wait: How long replies are awaited after the last line, in seconds.
    """

    def __init__(
        self,
        connection: WatchedConnection,
        lines: AsyncGenerator[str],
        transcript: Transcript,
        wait: float,
    ) -> None:
        self._connection = connection
        self._lines = lines
        self._transcript = transcript
        self._wait = wait
        self._failure: Failure | None = None

    async def run(self, stop: asyncio.Event) -> int:
        """Converse until the server closes, the lines end, or `stop` is set.

        Returns:
            Exit code: 0 after a normal end (1000, 1001 or no code), else 1.

        Raises:
            Failure: The lines cannot be read; the connection was closed with 1000.
        """
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._send()),
                group.create_task(self._show_controls()),
                group.create_task(self._close_at(stop)),
            ]
            closed = await self._receive()
            for task in tasks:
                task.cancel()
        await self._transcript.notice(_describe_end(closed))
        if self._failure is not None:
            raise self._failure
        return 0 if isinstance(closed, ConnectionClosedOK) else FAILED

    async def _receive(self) -> ConnectionClosed:
        while True:
            try:
                message = await self._connection.recv()
            except ConnectionClosed as exc:
                return exc
            await self._transcript.message(message)

    async def _send(self) -> None:
        async with contextlib.aclosing(self._lines) as lines:
            try:
                async for line in lines:
                    await self._connection.send(line)
                await asyncio.sleep(self._wait)
            except ConnectionClosed:
                await self._transcript.notice("the server closed before all lines were sent")
            except Failure as exc:
                self._failure = exc
        await self._connection.close()

    async def _show_controls(self) -> None:
        while True:
            await self._transcript.notice(await self._connection.controls.get())

    async def _close_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        await self._connection.close()


def _describe_end(closed: ConnectionClosed) -> str:
    if closed.rcvd is None and closed.sent is None:
        return "connection lost: 1006, no close frame"
    # Whoever closed first had the reason; the other side answers with the same code.
    by_server = closed.sent is None or closed.rcvd_then_sent is True
    close = closed.rcvd if by_server and closed.rcvd is not None else closed.sent
    assert close is not None
    try:
        name = f" {CloseCode(close.code).name.lower().replace('_', ' ')}"
    except ValueError:  # 3000 to 4999 mean what applications agree on
        name = ""
    reason = f": {close.reason}" if close.reason else ""
    side = "by the server" if by_server else "by us"
    unanswered = "" if closed.rcvd is not None else "; the server did not answer"
    return f"closed {side} with {close.code}{name}{reason}{unanswered}"
