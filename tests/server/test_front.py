"""From the first byte to 101 or to HTTP: heads in pieces, slow, huge, broken."""

import asyncio
import socket
import time
from typing import Any

import pytest

from hubbub import Server, ServerConnection, serve
from hubbub.server.front import MAX_HEAD
from tests.server.wire import HEAD, Peer, request_head, until
from tests.timing import MS

TLS_GREETING = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"


def listen(**options: Any) -> Server:
    return serve(say_hello, "127.0.0.1", 0, **options)


async def say_hello(websocket: ServerConnection) -> None:
    await websocket.send("Hello World!")


async def answer(server: Server, data: bytes) -> bytes:
    """Send bytes, read the whole response to the end of the connection."""
    async with await Peer.connect(server) as peer:
        peer.send(data)
        return await peer.read_to_end()


async def test_head_in_any_two_pieces() -> None:
    async with listen() as server:
        for position in range(1, len(HEAD)):
            async with await Peer.connect(server) as peer:
                sock = peer.writer.get_extra_info("socket")
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peer.send(HEAD[:position])
                await asyncio.sleep(0)
                peer.send(HEAD[position:])
                assert (await peer.read_head()).startswith(b"HTTP/1.1 101 ")
                assert await peer.read_frame() == (0x81, b"Hello World!")
                assert await peer.read_frame() == (0x88, b"\x03\xe8")


async def test_head_a_byte_at_a_time() -> None:
    async with listen() as server, await Peer.connect(server) as peer:
        for byte in HEAD:
            peer.send(bytes([byte]))
            await asyncio.sleep(0)

        assert (await peer.read_head()).startswith(b"HTTP/1.1 101 ")


async def test_slow_head_is_answered_408_after_open_timeout() -> None:
    async with listen(open_timeout=50 * MS) as server:
        assert (await answer(server, HEAD[:-1])).startswith(b"HTTP/1.1 408 ")


async def test_client_that_leaves_as_its_time_ends_is_no_error() -> None:
    async with listen(open_timeout=500 * MS) as server:
        client = socket.create_connection(server.sockets[0].getsockname())
        client.sendall(HEAD[:-1])
        # Served after the client's bytes were read, which started its time.
        assert (await answer(server, TLS_GREETING)).startswith(b"HTTP/1.1 400 ")
        # Both are due in one turn of the loop: the server has yet to see the end when it answers.
        asyncio.get_running_loop().call_soon(time.sleep, 600 * MS)
        asyncio.get_running_loop().call_later(100 * MS, client.close)
        await until(lambda: not server.front.waiting)


async def test_silent_connection_ends_after_open_timeout() -> None:
    async with listen(open_timeout=50 * MS) as server:
        assert await answer(server, b"") == b""


async def test_open_timeout_covers_process_request() -> None:
    async def hang(connection: ServerConnection, request: Any) -> None:
        await asyncio.Event().wait()

    async with listen(open_timeout=50 * MS, process_request=hang) as server:
        assert await answer(server, HEAD) == b""


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * MAX_HEAD,
        b"GET /" + b"x" * MAX_HEAD,
        request_head(cookie="x" * MAX_HEAD),
        request_head(cookie="x" * 9000),
        request_head(**{f"x_{n}": "y" for n in range(130)}),
    ],
    ids=["endless", "endless line", "huge", "long line of an upgrade", "many lines of an upgrade"],
)
async def test_huge_head_is_answered_431(head: bytes) -> None:
    async with listen() as server:
        assert (await answer(server, head)).startswith(b"HTTP/1.1 431 ")


async def test_long_path_of_an_upgrade_is_answered_414() -> None:
    async with listen() as server:
        assert (await answer(server, request_head("/" + "x" * 9000))).startswith(b"HTTP/1.1 414 ")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (TLS_GREETING, 400),
        (b"HELLO\r\n\r\n", 400),
        (b"HELLO\n\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (request_head(content_length="5"), 400),
        (request_head(transfer_encoding="chunked"), 400),
        (request_head().replace(b"host: ", b"ho st: "), 400),
        (request_head(cookie="\x00"), 400),
        (request_head(method="POST"), 405),
        (request_head().replace(b"HTTP/1.1", b"HTTP/1.0"), 505),
        (request_head(sec_websocket_version="12"), 426),
        (request_head(sec_websocket_version=None), 426),
        (request_head(sec_websocket_key=None), 400),
        (request_head(sec_websocket_key="short"), 400),
        (request_head(connection="keep-alive"), 426),
    ],
)
async def test_bad_request_is_answered_with_the_status_of_the_rfc(data: bytes, status: int) -> None:
    async with listen() as server, await Peer.connect(server) as peer:
        peer.send(data)
        head = await peer.read_head()

        assert head.startswith(b"HTTP/1.1 %d " % status)
        if status == 426:
            assert b"\r\nUpgrade: websocket\r\n" in head
        if status == 405:
            assert b"\r\nAllow: GET\r\n" in head
        # The rest of the server is fine.
        async with await Peer.open(server) as other:
            assert await other.read_frame() == (0x81, b"Hello World!")


async def test_empty_lines_before_a_request_are_ignored() -> None:
    async with listen() as server, await Peer.connect(server) as peer:
        for data in (b"\r\n", b"\r\n\r\n" + HEAD):
            peer.send(data)
            await asyncio.sleep(0)

        assert (await peer.read_head()).startswith(b"HTTP/1.1 101 ")


async def test_refused_client_that_stays_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hubbub.server.front.LINGER", 20 * MS)
    async with listen() as server, await Peer.connect(server) as peer:
        peer.send(b"\x16\x03\x01")
        await peer.read_head()
        await until(lambda: not server.front.waiting)


async def test_unknown_version_is_told_ours() -> None:
    async with listen() as server:
        response = await answer(server, request_head(sec_websocket_version="99"))

        assert b"\r\nSec-WebSocket-Version: 13\r\n" in response


async def test_peer_that_leaves_before_its_head_is_forgotten() -> None:
    async with listen() as server:
        for data in (b"", HEAD[:20]):
            peer = await Peer.connect(server)
            peer.send(data)
            peer.writer.close()
            await peer.writer.wait_closed()
        await until(lambda: not server.front.waiting)


async def test_closing_does_not_wait_for_connections_without_a_request() -> None:
    server = await listen()
    async with await Peer.connect(server) as silent, await Peer.connect(server) as begun:
        begun.send(HEAD[:20])
        await until(lambda: server.front.waiting == 2)
        server.close()
        async with asyncio.timeout(2000 * MS):
            await server.wait_closed()

        assert await silent.read_to_end() == b""
        response = await begun.read_to_end()
        # Its bytes may not have been read yet when the server closed.
        assert response == b"" or response.startswith(b"HTTP/1.1 503 ")


async def test_upgrade_in_progress_is_answered_503_when_the_server_closes() -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    async def wait(connection: ServerConnection, request: Any) -> None:
        entered.set()
        await go.wait()

    server = await listen(process_request=wait)
    async with await Peer.connect(server) as peer:
        peer.send(HEAD)
        await entered.wait()
        server.close()
        go.set()

        assert (await peer.read_head()).startswith(b"HTTP/1.1 503 ")
    await server.wait_closed()


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_client_that_goes_when_its_time_is_up_is_no_error() -> None:
    timeout = 20 * MS
    async with listen(open_timeout=timeout) as server:
        client = socket.create_connection(server.sockets[0].getsockname())
        client.sendall(HEAD[:5])
        await until(lambda: bool(server.front.waiting))
        for _ in range(10):
            await asyncio.sleep(0)  # it has come already: the loop only has to read it
        # In one turn of the loop, the client goes, and its time is up: the answer meets nobody.
        asyncio.get_running_loop().call_later(timeout / 2, client.close)
        time.sleep(timeout)
        await until(lambda: not server.front.waiting)
