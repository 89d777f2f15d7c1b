"""`ServerConnection` on real sockets: queue, callback, flow control, and how connections end."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConcurrencyError
from websockets.frames import Opcode

from hubbub import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    Server,
    ServerConnection,
    WriteLimitExceeded,
    serve,
)
from tests.server.wire import HEAD, Peer, close_frame, frame, until
from tests.timing import MS

TEXT, BINARY = Opcode.TEXT, Opcode.BINARY


def listen(handler: Any, **options: Any) -> Server:
    return serve(handler, "127.0.0.1", 0, **{"ping_interval": None, **options})


def url(server: Server, path: str = "/") -> str:
    return f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}{path}"


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


async def echo_by_callback(websocket: ServerConnection) -> None:
    websocket.on_message(websocket.send_nowait)
    await websocket.wait_closed()


class Handler:
    """Hands its connection to the test and stays until the test, or the peer, is done."""

    def __init__(self) -> None:
        self.connection: asyncio.Future[ServerConnection] = asyncio.Future()

    async def __call__(self, websocket: ServerConnection) -> None:
        self.connection.set_result(websocket)
        await websocket.wait_closed()


# Echo, both ways of handling.


@pytest.mark.parametrize("handler", [echo, echo_by_callback])
@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_echo_of_every_kind_of_message(handler: Any, compression: Any) -> None:
    async with (
        listen(handler, compression=compression) as server,
        connect(url(server), max_size=None) as client,
    ):
        messages: list[str | bytes] = [
            "",
            "a",
            "é€𝄞" * 50,
            b"",
            b"\xff" * 125,
            bytes(126),
            "x" * 70_000,
        ]
        for message in messages:
            await client.send(message)
            assert await client.recv() == message
        await client.send(["frag", "men", "ts"])
        assert await client.recv() == "fragments"
        await client.send([b"\xc3", b"\xa9"], text=True)
        assert await client.recv() == "é"
        assert isinstance(await (await client.ping()), float)


@pytest.mark.parametrize("handler", [echo, echo_by_callback])
async def test_pipelined_messages_come_back_in_order(handler: Any) -> None:
    async with listen(handler) as server, await Peer.open(server) as peer:
        count = 5000
        peer.send(*[frame(TEXT, b"%d" % n) for n in range(count)])
        received = [await peer.read_frame() for _ in range(count)]

        assert received == [(0x81, b"%d" % n) for n in range(count)]


@pytest.mark.parametrize("handler", [echo, echo_by_callback])
async def test_messages_in_the_packet_of_the_request_are_not_lost(handler: Any) -> None:
    async with listen(handler) as server, await Peer.connect(server) as peer:
        peer.send(HEAD + frame(TEXT, b"early") + frame(Opcode.PING, b"p") + frame(TEXT, b"bird"))
        head = await peer.read_head()

        assert head.startswith(b"HTTP/1.1 101 ")
        received = sorted([await peer.read_frame() for _ in range(3)])
        assert received == [(0x81, b"bird"), (0x81, b"early"), (0x8A, b"p")]


async def test_early_messages_wait_for_a_slow_handshake_in_bounded_memory() -> None:
    go = asyncio.Event()
    count = 400  # 24 MB: more than the kernel's buffers hold

    async def slow(connection: ServerConnection, request: Any) -> None:
        await go.wait()

    async with (
        listen(echo, process_request=slow, max_size=None) as server,
        await Peer.connect(server) as peer,
    ):
        peer.send(HEAD)
        for _ in range(count):
            peer.send(frame(BINARY, bytes(60_000)))
        await asyncio.wait({asyncio.create_task(peer.writer.drain())}, timeout=300 * MS)
        assert peer.writer.transport.get_write_buffer_size() > 0, "the server has taken it all"
        go.set()
        await peer.read_head()
        for _ in range(count):
            assert await peer.read_frame() == (0x82, bytes(60_000))


# recv.


@pytest.fixture
async def pair() -> AsyncIterator[tuple[ServerConnection, Peer]]:
    handler = Handler()
    async with listen(handler, close_timeout=1000 * MS) as server, await Peer.open(server) as peer:
        yield await handler.connection, peer


Pair = tuple[ServerConnection, Peer]


@pytest.mark.parametrize(
    ("opcode", "decode", "expected"),
    [
        (TEXT, None, "é"),
        (TEXT, True, "é"),
        (TEXT, False, "é".encode()),
        (BINARY, None, "é".encode()),
        (BINARY, True, "é"),
        (BINARY, False, "é".encode()),
    ],
)
@pytest.mark.parametrize("waits", [True, False])
async def test_recv_decodes_as_asked(
    pair: Pair, opcode: int, decode: Any, expected: str | bytes, waits: bool
) -> None:
    websocket, peer = pair
    if waits:
        task = asyncio.create_task(websocket.recv(decode))
        await asyncio.sleep(0)
        peer.send(frame(opcode, "é".encode()))
        received = await task
    else:
        peer.send(frame(opcode, "é".encode()))
        await until(lambda: bool(websocket.recv_messages.frames))
        received = await websocket.recv(decode)

    assert received == expected


async def test_recv_streaming_sees_whole_messages_and_fragments(pair: Pair) -> None:
    websocket, peer = pair
    peer.send(frame(TEXT, b"whole"), frame(BINARY, b"a", fin=False), frame(Opcode.CONT, b"b"))

    assert [part async for part in websocket.recv_streaming()] == ["whole"]
    assert [part async for part in websocket.recv_streaming()] == [b"a", b"b"]


async def test_recv_of_bad_text_as_bytes_gives_the_bytes(pair: Pair) -> None:
    websocket, peer = pair
    peer.send(frame(TEXT, b"\xff"))

    assert await websocket.recv(decode=False) == b"\xff"


async def test_recv_of_bad_text_ends_with_1007(pair: Pair) -> None:
    websocket, peer = pair
    peer.send(frame(TEXT, b"\xff"))
    task = asyncio.create_task(websocket.recv())

    assert (await peer.read_close())[0] == 1007
    peer.writer.close()
    with pytest.raises(ConnectionClosedError):
        await task


async def test_two_recv_at_once_are_refused(pair: Pair) -> None:
    websocket, peer = pair
    first = asyncio.create_task(websocket.recv())
    await asyncio.sleep(0)
    with pytest.raises(ConcurrencyError):
        await websocket.recv()
    peer.send(frame(TEXT, b"one"))

    assert await first == "one"


async def test_cancelled_recv_loses_no_message(pair: Pair) -> None:
    websocket, _ = pair
    task = asyncio.create_task(websocket.recv())
    await asyncio.sleep(0)
    # Cancel in the very iteration in which the message wakes the task.
    websocket.data_received(frame(TEXT, b"one") + frame(TEXT, b"two"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [await websocket.recv(), await websocket.recv()] == ["one", "two"]


async def test_messages_before_the_end_are_received_after_it(pair: Pair) -> None:
    websocket, peer = pair
    peer.send(frame(TEXT, b"one"), frame(TEXT, b"two"), close_frame(1000, "bye"))
    await peer.read_close()
    peer.writer.close()
    await websocket.wait_closed()

    assert [message async for message in websocket] == ["one", "two"]
    with pytest.raises(ConnectionClosedOK) as caught:
        await websocket.recv()
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1000, "bye")  # type: ignore[union-attr]


async def test_iteration_raises_what_is_no_normal_end(pair: Pair) -> None:
    websocket, peer = pair
    peer.send(close_frame(4000, "why"))
    await peer.read_close()
    peer.writer.close()
    with pytest.raises(ConnectionClosedError, match="4000"):
        async for _ in websocket:
            pass


async def test_a_full_queue_stops_reading_until_it_is_drained() -> None:
    handler = Handler()
    async with (
        listen(handler, max_queue=(8, 2), max_size=None) as server,
        await Peer.open(server) as peer,
    ):
        websocket = await handler.connection
        for n in range(400):
            peer.send(frame(BINARY, b"%d" % n + bytes(60_000)))
        await until(lambda: websocket.recv_messages.paused)
        drained = asyncio.create_task(peer.writer.drain())
        await asyncio.wait({drained}, timeout=200 * MS)
        assert not drained.done(), "the server reads what nobody takes"
        for n in range(400):
            assert (await websocket.recv()).rstrip(b"\0") == b"%d" % n  # type: ignore[arg-type]
        await drained


# send.


async def test_send_forces_the_frame_type_as_asked(pair: Pair) -> None:
    websocket, peer = pair
    asked: list[tuple[str | bytes, bool | None]] = [
        ("t", None),
        ("t", False),
        (b"b", None),
        (b"b", True),
        (b"b", False),
    ]
    for message, text in asked:
        await websocket.send(message, text=text)
        websocket.send_nowait(message, text=text)
    await websocket.send(bytearray(b"array"))

    firsts = [(await peer.read_frame())[0] for _ in range(11)]
    assert firsts == [0x81] * 2 + [0x82] * 4 + [0x81] * 2 + [0x82] * 3


@pytest.mark.parametrize("message", [{"a": "mapping"}, 42, None])
async def test_send_refuses_what_is_no_message(pair: Pair, message: Any) -> None:
    websocket, _ = pair
    with pytest.raises(TypeError):
        await websocket.send(message)
    with pytest.raises(TypeError, match=type(message).__name__):
        websocket.send_nowait(message)


async def test_text_that_cannot_be_encoded_is_the_callers_error_alone(pair: Pair) -> None:
    websocket, peer = pair
    with pytest.raises(UnicodeEncodeError):
        await websocket.send("\ud800")
    await websocket.send("still open")

    assert await peer.read_frame() == (0x81, b"still open")


async def test_whole_messages_wait_for_a_fragmented_send(pair: Pair) -> None:
    websocket, peer = pair
    go = asyncio.Event()

    async def fragments() -> AsyncIterator[str]:
        yield "a"
        await go.wait()
        yield "b"

    sending = asyncio.create_task(websocket.send(fragments()))
    assert await peer.read_frame() == (0x01, b"a")
    waiting = asyncio.create_task(websocket.send("whole"))
    await asyncio.sleep(0)
    with pytest.raises(ConcurrencyError):
        websocket.send_nowait("now")
    go.set()
    await sending
    await waiting

    received = [await peer.read_frame() for _ in range(3)]
    assert received == [(0x00, b"b"), (0x80, b""), (0x81, b"whole")]


async def test_send_waits_for_a_peer_that_does_not_read() -> None:
    sent = 0

    async def flood(websocket: ServerConnection) -> None:
        nonlocal sent
        while True:
            await websocket.send(bytes(10_000))
            sent += 1

    async with listen(flood) as server, await Peer.open(server, limit=1024) as peer:
        (connection,) = server.connections
        await until(lambda: connection.paused)
        paused_at = sent
        await asyncio.sleep(50 * MS)  # time to send more, if it did not wait
        assert sent - paused_at <= 1
        assert connection.transport.get_write_buffer_size() <= 2**15 + 10_004
        for _ in range(sent + 10):
            await peer.read_frame()


async def test_send_to_a_lost_peer_raises_connection_closed(pair: Pair) -> None:
    websocket, peer = pair
    peer.writer.transport.abort()
    await websocket.wait_closed()
    with pytest.raises(ConnectionClosed):
        await websocket.send("late")
    with pytest.raises(ConnectionClosed):
        websocket.send_nowait("late")


# The callback.


async def test_callback_takes_what_was_queued_first() -> None:
    handler = Handler()
    received: list[Any] = []
    async with listen(handler) as server, await Peer.open(server) as peer:
        websocket = await handler.connection
        peer.send(frame(TEXT, b"1"), frame(BINARY, b"2"))
        peer.send(frame(TEXT, b"3", fin=False), frame(Opcode.CONT, b"3"))
        await until(lambda: len(websocket.recv_messages.frames) == 4)
        websocket.on_message(received.append)
        assert received == ["1", b"2", "33"]
        peer.send(frame(TEXT, b"4"))
        await until(lambda: len(received) == 4)


@pytest.mark.parametrize(("decode", "expected"), [(True, ["t", "b"]), (False, [b"t", b"b"])])
async def test_callback_decodes_as_asked(pair: Pair, decode: bool, expected: list[Any]) -> None:
    websocket, peer = pair
    received: list[Any] = []
    websocket.on_message(received.append, decode=decode)
    peer.send(frame(TEXT, b"t"), frame(BINARY, b"b"))
    await until(lambda: len(received) == 2)

    assert received == expected


async def test_callback_and_recv_exclude_each_other(pair: Pair) -> None:
    websocket, peer = pair
    waiting = asyncio.create_task(websocket.recv())
    await asyncio.sleep(0)
    with pytest.raises(ConcurrencyError):
        websocket.on_message(print)
    peer.send(frame(TEXT, b"x"))
    await waiting
    websocket.on_message(lambda message: None)
    with pytest.raises(ConcurrencyError):
        websocket.on_message(print)
    with pytest.raises(ConcurrencyError):
        await websocket.recv()


async def test_callback_that_raises_ends_its_connection_with_1011(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    websocket, peer = pair
    received: list[Any] = []

    def fail(message: str) -> None:
        received.append(message)
        raise ValueError(message)

    websocket.on_message(fail)
    peer.send(frame(TEXT, b"one"), frame(TEXT, b"two"))

    assert await peer.read_close() == (1011, "")
    assert received == ["one"]
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == [
        "message callback failed"
    ]


async def test_callback_gets_1007_for_bad_text_and_1009_for_too_many_fragments() -> None:
    for frames, code in [
        ([frame(TEXT, b"\xff")], 1007),
        ([frame(TEXT, b"\xc3", fin=False), frame(Opcode.CONT, b"x")], 1007),
        ([frame(TEXT, fin=False), *[frame(Opcode.CONT, fin=False)] * 5000], 1009),
    ]:
        async with listen(echo_by_callback) as server, await Peer.open(server) as peer:
            peer.send(*frames)

            assert (await peer.read_close())[0] == code


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_callback_waits_while_reading_is_paused(compression: Any) -> None:
    handler = Handler()
    received: list[str] = []
    async with (
        listen(handler, compression=compression) as server,
        connect(url(server), compression=compression) as client,
    ):
        websocket = await handler.connection

        def take(message: str) -> None:
            received.append(message)
            if message.endswith("5"):
                websocket.pause_reading()
                websocket.pause_reading()

        websocket.on_message(take)
        numbers = [str(n) for n in range(20)]
        for number in numbers:
            await client.send(number)
        await until(lambda: received == numbers[:6])
        await asyncio.sleep(20 * MS)  # time to deliver more, if it did not wait
        assert received == numbers[:6]
        websocket.resume_reading()
        await until(lambda: received == numbers[:16])
        websocket.resume_reading()
        await until(lambda: received == numbers)


async def test_callback_echo_to_a_peer_that_does_not_read_stays_bounded() -> None:
    async with (
        listen(echo_by_callback, max_size=None) as server,
        await Peer.open(server, limit=1024) as peer,
    ):
        (connection,) = server.connections
        count = 800
        for n in range(count):
            peer.send(frame(BINARY, b"%d" % n + bytes(40_000)))
        await until(lambda: connection.paused)
        await asyncio.sleep(50 * MS)  # time to take more, if it did not wait
        assert connection.transport.get_write_buffer_size() <= 2**15 + 40_014
        assert peer.writer.transport.get_write_buffer_size() > 0, "the server has taken it all"
        for n in range(count):
            first, payload = await peer.read_frame()
            assert (first, payload.rstrip(b"\0")) == (0x82, b"%d" % n)


async def test_send_nowait_over_the_limit_is_refused_and_sends_nothing(pair: Pair) -> None:
    websocket, peer = pair
    sent = 0
    while not websocket.paused:
        websocket.send_nowait(bytes(10_000))
        sent += 1
    with pytest.raises(WriteLimitExceeded, match="write_limit=32768") as caught:
        websocket.send_nowait("refused")
    assert caught.value.buffered > caught.value.limit == 2**15
    for _ in range(sent):
        assert (await peer.read_frame())[1] == bytes(10_000)
    await until(lambda: not websocket.paused)
    websocket.send_nowait("again")
    assert await peer.read_frame() == (0x81, b"again")


# How connections end.


@pytest.mark.parametrize("handler", [echo, echo_by_callback])
async def test_lost_peer_is_a_normal_end(handler: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with listen(handler) as server, await Peer.open(server) as peer:
        (connection,) = server.connections
        sock = peer.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.writer.transport.abort()
        await connection.wait_closed()
        await until(lambda: not server.handler_tasks)
        assert connection.close_code == 1006

    assert [r for r in caplog.records if r.levelno > logging.INFO] == []


async def test_connection_closed_of_another_connection_is_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def bye(websocket: ServerConnection) -> None:
        pass

    async def proxy(websocket: ServerConnection) -> None:
        async with connect(url(upstream)) as client:
            await client.wait_closed()
            await client.send("too late")

    async with listen(bye) as upstream, listen(proxy) as server, await Peer.open(server) as peer:
        assert (await peer.read_close())[0] == 1011

    assert "connection handler failed" in caplog.messages


async def test_handler_that_raises_ends_with_1011_logged_once_others_unaffected(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fragile(websocket: ServerConnection) -> None:
        async for message in websocket:
            if message == "break":
                raise ValueError("broken")
            await websocket.send(message)

    async with (
        listen(fragile) as server,
        await Peer.open(server) as other,
        await Peer.open(server) as peer,
    ):
        peer.send(frame(TEXT, b"break"))
        assert await peer.read_close() == (1011, "")
        other.send(frame(TEXT, b"fine"))
        assert await other.read_frame() == (0x81, b"fine")

    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.message for record in errors] == ["connection handler failed"]


@pytest.mark.parametrize("handler", [echo, echo_by_callback])
async def test_close_frame_is_echoed_and_ends_the_handler(handler: Any) -> None:
    async with listen(handler) as server, await Peer.open(server) as peer:
        peer.send(close_frame(3456, "done"))

        assert await peer.read_close() == (3456, "done")
        assert await peer.read_to_end() == b""
        peer.writer.close()
        await until(lambda: not server.handler_tasks)


@pytest.mark.parametrize("handler", [echo, echo_by_callback])
async def test_peer_that_never_ends_tcp_after_closing_is_dropped(handler: Any) -> None:
    async with (
        listen(handler, close_timeout=50 * MS) as server,
        await Peer.open(server) as peer,
    ):
        peer.send(close_frame())
        await peer.read_close()
        # The peer keeps its side open.
        await until(lambda: not server.handler_tasks)


@pytest.mark.parametrize("handler", [echo, echo_by_callback])
async def test_half_closed_peer_ends_the_connection(handler: Any) -> None:
    async with listen(handler) as server, await Peer.open(server) as peer:
        (connection,) = server.connections
        peer.send(frame(TEXT, b"last words")[:-3])
        peer.writer.write_eof()

        assert await peer.read_to_end() == b""
        await until(lambda: not server.handler_tasks)
        assert connection.close_code == 1006


async def test_closing_towards_a_peer_that_does_not_read_takes_close_timeout() -> None:
    async def flood(websocket: ServerConnection) -> None:
        while True:
            await websocket.send(bytes(10_000))

    server = await listen(flood, close_timeout=100 * MS)
    async with await Peer.open(server, limit=1024):
        (connection,) = server.connections
        await until(lambda: connection.paused)
        server.close()
        async with asyncio.timeout(3000 * MS):
            await server.wait_closed()


async def test_peer_that_takes_no_data_is_dropped_after_ping_timeout() -> None:
    errors: list[ConnectionClosed] = []

    async def flood(websocket: ServerConnection) -> None:
        try:
            while True:
                await websocket.send(bytes(10_000))
        except ConnectionClosed as exc:
            errors.append(exc)

    async with (
        listen(flood, ping_interval=10_000 * MS, ping_timeout=100 * MS) as server,
        await Peer.open(server, limit=1024),
    ):
        await until(lambda: not server.handler_tasks)
        assert "peer took no data" in str(errors[0].__cause__ or errors[0].__context__)


async def test_peer_that_reads_slowly_is_not_dropped() -> None:
    size = 20_000_000

    async def flood(websocket: ServerConnection) -> None:
        await websocket.send(bytes(size))

    loop = asyncio.get_running_loop()
    async with listen(flood, ping_timeout=150 * MS) as server:
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", server.sockets[0].getsockname()[1]))
            await loop.sock_sendall(sock, HEAD)
            received = 0
            # For several times ping_timeout, little enough that the kernel takes nothing new.
            for _ in range(12):
                received += len(await loop.sock_recv(sock, 100_000))
                await asyncio.sleep(50 * MS)
            while received < size and (data := await loop.sock_recv(sock, 2**20)):
                received += len(data)

    assert received > size


async def test_handler_that_leaves_messages_unread_still_closes_with_1000() -> None:
    async def deaf(websocket: ServerConnection) -> None:
        await until(lambda: websocket.recv_messages.paused)

    async with listen(deaf, max_queue=2) as server, await Peer.open(server) as peer:
        for n in range(400):
            peer.send(frame(BINARY, b"%d" % n + bytes(60_000)))
        assert await peer.read_close() == (1000, "")
        peer.send(close_frame())

        assert await peer.read_to_end() == b""
        peer.writer.close()
        await until(lambda: not server.handler_tasks)


# Bad input, each with the close code of RFC 6455.


@pytest.mark.parametrize("handler", [echo, echo_by_callback])
@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([frame(TEXT, b"\xff\xfe")], 1007),
        ([frame(TEXT, b"x", mask=None)], 1002),
        ([frame(TEXT, b"x", rsv=4)], 1002),
        ([frame(TEXT, b"x", rsv=1)], 1002),
        ([frame(3, b"x")], 1002),
        ([frame(TEXT, bytes(2**20 + 1))], 1009),
        ([frame(BINARY, b"", length=2**40)], 1009),
        ([frame(TEXT, bytes(2**20), fin=False), frame(Opcode.CONT, b"x")], 1009),
        ([frame(TEXT, fin=False), *[frame(Opcode.CONT, fin=False)] * 5000], 1009),
        ([frame(Opcode.CONT, b"x")], 1002),
        ([frame(TEXT, b"x", fin=False), frame(TEXT, b"y")], 1002),
        ([frame(Opcode.PING, bytes(126))], 1002),
        ([frame(Opcode.PING, b"x", fin=False)], 1002),
        ([frame(Opcode.CLOSE, b"\x03")], 1002),
        ([frame(Opcode.CLOSE, b"\x03\xee")], 1002),
    ],
)
async def test_bad_frames_end_with_the_code_of_the_rfc(
    handler: Any, frames: list[bytes], code: int
) -> None:
    async with (
        listen(handler) as server,
        await Peer.open(server) as other,
        await Peer.open(server) as peer,
    ):
        peer.send(*frames)

        assert (await peer.read_close())[0] == code
        other.send(frame(TEXT, b"unaffected"))
        assert await other.read_frame() == (0x81, b"unaffected")


async def test_a_byte_at_a_time_is_as_good_as_a_packet() -> None:
    async with listen(echo) as server, await Peer.open(server) as peer:
        sock = peer.writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in frame(TEXT, b"slow") + frame(BINARY, bytes(300)):
            peer.send(bytes([byte]))
            await asyncio.sleep(0)

        assert await peer.read_frame() == (0x81, b"slow")
        assert await peer.read_frame() == (0x82, bytes(300))


async def test_debug_logging_shows_every_frame(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "hubbub.server")
    async with listen(echo) as server, connect(url(server)) as client:
        await client.send("shown")
        await client.recv()

    assert "< TEXT 'shown' [5 bytes]" in caplog.messages
    assert "> TEXT 'shown' [5 bytes]" in caplog.messages
