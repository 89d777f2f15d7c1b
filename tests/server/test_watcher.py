"""Who watches a connection is told of its flow control and of its end, at once and once."""

import asyncio
from typing import Any

import pytest
from websockets.protocol import State

from hubbub import ServerConnection, serve
from hubbub.server.frames import TEXT, serialize
from tests.server.wire import Peer, close_frame, frame, until
from tests.timing import MS


class Watch:
    """A watcher that writes down what it is told, and the connection's state then."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.opened = asyncio.Event()
        self.release = asyncio.Event()
        self.messages: list[Any] = []
        self.connection: ServerConnection | None = None

    async def handle(self, connection: ServerConnection) -> None:
        self.connection = connection
        connection.watch(self)
        connection.on_message(self.messages.append, decode=False)
        self.opened.set()
        await connection.wait_closed()

    def writing_paused(self) -> None:
        self.told.append("paused")

    def writing_resumed(self) -> None:
        self.told.append("resumed")

    def closing(self) -> None:
        self.told.append("closing")


async def test_close_frame_is_the_end_though_tcp_goes_on() -> None:
    watch = Watch()
    async with serve(watch.handle, "127.0.0.1", 0) as server, await Peer.open(server) as peer:
        await watch.opened.wait()
        peer.send(close_frame(1000))
        await until(lambda: watch.told == ["closing"])

        assert watch.connection is not None
        assert watch.connection.state is not State.CLOSED


async def test_reset_is_told_once() -> None:
    watch = Watch()
    async with serve(watch.handle, "127.0.0.1", 0) as server, await Peer.open(server) as peer:
        await watch.opened.wait()
        peer.writer.transport.abort()
        await until(lambda: bool(watch.told))
        assert watch.connection is not None
        await watch.connection.wait_closed()

        assert watch.told == ["closing"]


@pytest.mark.parametrize("how", ["close", "fail"])
async def test_own_close_is_told_before_the_frame_leaves(how: str) -> None:
    watch = Watch()
    async with serve(watch.handle, "127.0.0.1", 0) as server, await Peer.open(server) as peer:
        await watch.opened.wait()
        connection = watch.connection
        assert connection is not None
        if how == "fail":
            connection.fail(4000, "enough")  # type: ignore[arg-type]
            assert watch.told == ["closing"]
        else:
            closing = asyncio.create_task(connection.close(4000, "enough"))
            assert await peer.read_close() == (4000, "enough")
            peer.send(close_frame(4000))
            peer.writer.close()
            await closing

        assert watch.told == ["closing"]


async def test_violation_of_the_peer_is_told() -> None:
    watch = Watch()
    async with serve(watch.handle, "127.0.0.1", 0) as server, await Peer.open(server) as peer:
        await watch.opened.wait()
        peer.send(frame(0x3, b""))
        assert (await peer.read_close())[0] == 1002

        assert watch.told == ["closing"]


async def test_slow_reader_is_told_of_and_messages_are_delivered_meanwhile() -> None:
    watch = Watch()
    async with serve(watch.handle, "127.0.0.1", 0) as server, await Peer.open(server) as peer:
        await watch.opened.wait()
        connection = watch.connection
        assert connection is not None
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        while not watch.told:
            connection.transport.write(serialize(TEXT, b"x" * 65536))
            await asyncio.sleep(0)
        assert watch.told == ["paused"]
        peer.send(frame(0x1, b"still here"))
        await until(lambda: watch.messages == [b"still here"])

        peer.reader._transport.resume_reading()  # type: ignore[attr-defined]
        reading = asyncio.create_task(drain(peer))
        await until(lambda: watch.told == ["paused", "resumed"])
        reading.cancel()


async def drain(peer: Peer) -> None:
    while await peer.reader.read(1 << 20):
        pass


async def test_watched_connection_is_not_dropped_for_stalling() -> None:
    watch = Watch()
    server = serve(watch.handle, "127.0.0.1", 0, ping_interval=None, ping_timeout=20 * MS)
    async with server, await Peer.open(server) as peer:
        await watch.opened.wait()
        connection = watch.connection
        assert connection is not None
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        while not watch.told:
            connection.transport.write(serialize(TEXT, b"x" * 65536))
            await asyncio.sleep(0)
        # Three times as long as a connection without a watcher has.
        await asyncio.sleep(60 * MS)

        assert watch.told == ["paused"]
