"""`serve` and `Server`: the API of `websockets`, what it listens on, and how it ends."""

import asyncio
import contextlib
import inspect
import logging
import re
import select
import socket
import ssl
import sys
from pathlib import Path
from typing import Any, Self

import pytest
import trustme
from websockets.asyncio import server as parent
from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

import hubbub
from hubbub import Server, ServerConnection, basic_auth, serve, unix_serve
from tests.server.wire import HEAD, Peer, frame, request_head, until
from tests.timing import MS


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


async def say_path(websocket: ServerConnection, **params: Any) -> None:
    await websocket.send(repr(params))


def port(server: Server) -> int:
    number: int = server.sockets[0].getsockname()[1]
    return number


def url(server: Server, path: str = "/", scheme: str = "ws") -> str:
    return f"{scheme}://127.0.0.1:{port(server)}{path}"


# The parent's API.


def parameters(function: Any) -> dict[str, tuple[Any, Any]]:
    signature = inspect.signature(function)
    return {name: (p.kind, p.default) for name, p in signature.parameters.items()}


@pytest.mark.parametrize("name", parent.__all__)
def test_signatures_are_the_parents(name: str) -> None:
    ours, theirs = getattr(hubbub, name), getattr(parent, name)
    pairs = [(ours, theirs)]
    if inspect.isclass(theirs):
        assert issubclass(ours, theirs)
        pairs += [
            (getattr(ours, member), value)
            for member, value in inspect.getmembers(theirs, inspect.isfunction)
            if member == "__init__" or not member.startswith("_")
        ]
    for our, their in pairs:
        # compression is off: the one departure (ADR 0005).
        expected = parameters(their) | (
            {"compression": (inspect.Parameter.KEYWORD_ONLY, None)} if their is parent.serve else {}
        )
        found = parameters(our)
        if "options" in found:  # ServerConnection.__init__ passes them on
            continue
        assert {key: found[key] for key in expected} == expected, their
        # What we add is keyword-only: no positional call changes its meaning.
        added = [found[key][0] for key in found.keys() - expected.keys()]
        assert set(added) <= {inspect.Parameter.KEYWORD_ONLY}, their


def test_connection_takes_the_parents_options() -> None:
    theirs = parameters(parent.ServerConnection.__init__)
    assert [kind for kind, _ in theirs.values()][:3] == [
        inspect.Parameter.POSITIONAL_OR_KEYWORD
    ] * 3
    assert list(parameters(ServerConnection.__init__))[:3] == ["self", "protocol", "server"]


# Three ways to use it.


async def test_as_context_manager() -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        assert server.is_serving()
        async with connect(url(server)) as client:
            await client.send("x")
            assert await client.recv() == "x"
    assert not server.is_serving()


async def test_by_await_and_close() -> None:
    server = await serve(echo, "127.0.0.1", 0)
    assert server.is_serving()
    server.close()
    server.close()
    await server.wait_closed()
    await server.wait_closed()


async def test_serve_forever_ends_when_closed() -> None:
    server = await serve(echo, "127.0.0.1", 0)
    serving = asyncio.create_task(server.serve_forever())
    await asyncio.sleep(0)
    server.close()
    await serving


async def test_serve_forever_closes_when_cancelled() -> None:
    server = await serve(echo, "127.0.0.1", 0)
    serving = asyncio.create_task(server.serve_forever())
    async with connect(url(server)) as client:
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        await client.wait_closed()
        assert client.close_code == 1001
    assert not server.is_serving()


async def test_start_serving_later() -> None:
    server = await serve(echo, "127.0.0.1", 0, start_serving=False)
    assert not server.is_serving()
    serving = asyncio.create_task(server.serve_forever())
    await until(server.is_serving)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


# What it listens on.


async def test_inherited_socket_and_reuse_port() -> None:
    sock = socket.create_server(("127.0.0.1", 0), reuse_port=True)
    number = sock.getsockname()[1]
    async with (
        serve(echo, sock=sock) as one,
        serve(echo, "127.0.0.1", number, reuse_port=True) as two,
    ):
        assert port(one) == port(two) == number
        for _ in range(4):
            async with connect(url(one)) as client:
                await client.send("x")
                assert await client.recv() == "x"


async def test_taken_port_is_an_error_and_leaves_nothing_behind() -> None:
    left: list[str] = []

    class Context:
        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *exc_info: object) -> None:
            left.append("left")

        async def __call__(self, websocket: ServerConnection) -> None: ...

    async with serve(echo, "127.0.0.1", 0) as server:
        with pytest.raises(OSError, match=str(port(server))):
            await serve(Context(), "127.0.0.1", port(server))
    assert left == ["left"]


async def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "hubbub.sock"
    async with unix_serve(echo, str(path)) as server:
        async with unix_connect(str(path), "ws://localhost/") as client:
            await client.send("x" * 100_000)
            assert await client.recv() == "x" * 100_000
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await writer.wait_closed()
    assert not server.is_serving()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def by_callback(websocket: ServerConnection) -> None:
    websocket.on_message(websocket.send_nowait)
    await websocket.wait_closed()


@pytest.mark.parametrize("handler", [echo, by_callback])
async def test_tls(handler: Any, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    async with serve(handler, "127.0.0.1", 0, ssl=server_tls) as server:
        async with connect(url(server, scheme="wss"), ssl=client_tls) as client:
            messages: list[str | bytes] = ["", "é", bytes(100), "x" * 70_000, bytes(500_000)]
            for message in messages:
                await client.send(message)
                assert await client.recv() == message
        async with await Peer.connect(server, ssl=client_tls, server_hostname="127.0.0.1") as peer:
            for _ in range(2):
                peer.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await peer.read_head()).startswith(b"HTTP/1.1 200 ")
                await peer.reader.readexactly(3)
            peer.send(HEAD + frame(1, b"early"))
            assert (await peer.read_head()).startswith(b"HTTP/1.1 101 ")
            assert await peer.read_frame() == (0x81, b"early")


async def test_plain_text_to_a_tls_port_harms_nobody(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    asyncio.get_running_loop().set_debug(False)  # else asyncio reports each failed TLS handshake
    async with serve(echo, "127.0.0.1", 0, ssl=server_tls) as server:
        async with await Peer.connect(server) as peer:
            peer.send(HEAD)
            await peer.read_to_end()
        async with connect(url(server, scheme="wss"), ssl=client_tls) as client:
            await client.send("fine")
            assert await client.recv() == "fine"


# The handshake's options.


async def test_origins() -> None:
    allowed: list[Any] = ["https://a.example", re.compile(r"https://.*\.b\.example"), None]
    async with serve(echo, "127.0.0.1", 0, origins=allowed) as server:
        for origin in ("https://a.example", "https://x.b.example", None):
            async with await Peer.open(server, request_head(origin=origin)):
                pass
        async with await Peer.connect(server) as peer:
            peer.send(request_head(origin="https://evil.example"))
            assert (await peer.read_head()).startswith(b"HTTP/1.1 403 ")


async def test_subprotocols_and_their_selection() -> None:
    def select(connection: ServerConnection, offered: Any) -> Any:
        assert isinstance(connection, ServerConnection)
        return offered[-1]

    for options, expected in [
        ({"subprotocols": ["b", "a"]}, "b"),
        ({"subprotocols": ["a", "b"], "select_subprotocol": select}, "b"),
    ]:
        async with (
            serve(echo, "127.0.0.1", 0, **options) as server,  # type: ignore[arg-type]
            connect(url(server), subprotocols=["a", "b"]) as client,  # type: ignore[list-item]
        ):
            assert client.subprotocol == expected


async def test_process_request_and_response() -> None:
    def process_request(connection: ServerConnection, request: Any) -> Any:
        return connection.respond(418, "teapot\n") if request.path == "/tea" else None

    async def process_response(connection: ServerConnection, request: Any, response: Any) -> None:
        response.headers["X-Seen"] = str(response.status_code)

    async with serve(
        echo,
        "127.0.0.1",
        0,
        process_request=process_request,
        process_response=process_response,
        server_header="mine",
    ) as server:
        async with connect(url(server)) as client:
            assert client.response is not None
            assert client.response.headers["X-Seen"] == "101"
            assert client.response.headers["Server"] == "mine"
        with pytest.raises(InvalidStatus) as caught:
            await connect(url(server, "/tea"))
        assert caught.value.response.status_code == 418
        assert caught.value.response.headers["X-Seen"] == "418"


async def test_basic_auth() -> None:
    async def whoami(websocket: ServerConnection) -> None:
        await websocket.send(websocket.username)

    auth: Any = basic_auth("realm", credentials=("user", "secret"))
    async with serve(whoami, "127.0.0.1", 0, process_request=auth) as server:
        async with connect(f"ws://user:secret@127.0.0.1:{port(server)}/") as client:
            assert await client.recv() == "user"
        with pytest.raises(InvalidStatus, match="401"):
            await connect(f"ws://user:wrong@127.0.0.1:{port(server)}/")


async def test_compression_is_negotiated_only_when_asked_for() -> None:
    async with serve(echo, "127.0.0.1", 0) as server, connect(url(server)) as client:
        assert client.protocol.extensions == []
    async with (
        serve(echo, "127.0.0.1", 0, compression="deflate") as server,
        connect(url(server)) as client,
    ):
        (extension,) = client.protocol.extensions
        assert repr(extension) == (
            "PerMessageDeflate(remote_no_context_takeover=True, local_no_context_takeover=True, "
            "remote_max_window_bits=12, local_max_window_bits=12)"
        )
        (connection,) = server.connections
        assert isinstance(connection, ServerConnection)
        assert not connection.plain


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"compression": "gzip"}, ValueError, "gzip"),
        ({"create_connection": parent.ServerConnection}, TypeError, "subclass"),
        ({"subprotocols": "one string"}, TypeError, "subprotocols"),
    ],
)
async def test_options_that_cannot_be_used(options: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        serve(echo, "127.0.0.1", 0, **options)


async def test_create_connection_may_be_a_subclass() -> None:
    class Counting(ServerConnection):
        count = 0

        async def send(self, *args: Any, **kwargs: Any) -> None:
            self.count += 1
            await super().send(*args, **kwargs)

    async with (
        serve(echo, "127.0.0.1", 0, create_connection=Counting) as server,
        connect(url(server)) as client,
    ):
        await client.send("x")
        await client.recv()
        (connection,) = server.connections
        assert isinstance(connection, Counting)
        assert connection.count == 1


# Several handlers.


async def test_mapping_of_paths_with_parameters() -> None:
    handlers: Any = {
        "/": say_path,
        "/rooms/lobby": echo,
        "/rooms/{room}": say_path,
        "/users/{id:int}/{rest:path}": say_path,
    }
    async with serve(handlers, "127.0.0.1", 0) as server:
        for path, expected in [
            ("/", "{}"),
            ("/?query=1", "{}"),
            ("/rooms/a%20b%C3%A9", "{'room': 'a bé'}"),
            ("/users/42/x/y", "{'id': 42, 'rest': 'x/y'}"),
        ]:
            async with connect(url(server, path)) as client:
                assert await client.recv() == expected
        async with connect(url(server, "/rooms/lobby")) as client:
            await client.send("echo")
            assert await client.recv() == "echo"
        for path in ("/nowhere", "/rooms/a/b", "/users/x/y", "/rooms/"):
            with pytest.raises(InvalidStatus, match="404"):
                await connect(url(server, path))


async def test_own_process_request_comes_before_routing() -> None:
    async def process_request(connection: ServerConnection, request: Any) -> Any:
        return connection.respond(403, "no\n") if request.path == "/secret" else None

    handlers: Any = {"/": echo, "/secret": echo}
    async with serve(handlers, "127.0.0.1", 0, process_request=process_request) as server:
        async with connect(url(server)):
            pass
        with pytest.raises(InvalidStatus, match="403"):
            await connect(url(server, "/secret"))
        with pytest.raises(InvalidStatus, match="404"):
            await connect(url(server, "/nowhere"))


@pytest.mark.parametrize(
    ("handlers", "error", "match"),
    [
        ({}, ValueError, "at least one path"),
        ({"room": echo}, ValueError, "'room'"),
        ({"/{id:number}": echo}, ValueError, "number"),
        ({"/{a}/{a}": echo}, ValueError, "a"),
        ({"/": 42}, TypeError, "42"),
    ],
)
async def test_mappings_that_cannot_be_used(handlers: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        serve(handlers, "127.0.0.1", 0)


# Handlers with a life of their own.


class Hub:
    """What a hub is to the server: a handler that is entered and left."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.running = False

    async def __aenter__(self) -> Self:
        self.task = asyncio.current_task()
        self.seen.append("entered")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self.task is asyncio.current_task(), "a TaskGroup inside would not survive this"
        self.seen.append("left")

    async def __call__(self, websocket: ServerConnection) -> None:
        self.seen.append("open")
        await websocket.wait_closed()
        self.seen.append("closed")


async def test_context_is_entered_before_and_left_after_all_connections() -> None:
    hub = Hub()
    async with serve({"/a": hub, "/b": hub}, "127.0.0.1", 0) as server:
        assert hub.seen == ["entered"]
        client = await connect(url(server, "/a"))
        await until(lambda: "open" in hub.seen)
    assert hub.seen == ["entered", "open", "closed", "left"]
    await client.wait_closed()


async def test_context_that_runs_already_is_not_entered() -> None:
    hub = Hub()
    hub.running = True
    async with serve(hub, "127.0.0.1", 0):
        pass
    assert hub.seen == []


async def test_context_that_fails_to_start_refuses_to_listen() -> None:
    class Broken(Hub):
        async def __aenter__(self) -> Self:
            raise ValueError("no broker")

    first, broken = Hub(), Broken()
    with pytest.raises(ValueError, match="no broker"):
        await serve({"/a": first, "/b": broken}, "127.0.0.1", 0)
    assert first.seen == ["entered", "left"]


# The end.


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [({}, 1001, ""), ({"code": 1012, "reason": "restart"}, 1012, "restart")],
)
async def test_close_tells_clients_why(arguments: Any, code: int, reason: str) -> None:
    server = await serve(echo, "127.0.0.1", 0)
    async with connect(url(server)) as client:
        server.close(**arguments)
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (code, reason)
    await server.wait_closed()


async def test_close_can_leave_connections_to_their_handlers() -> None:
    server = await serve(echo, "127.0.0.1", 0)
    async with connect(url(server)) as client:
        server.close(close_connections=False)
        await until(lambda: not server.is_serving())
        await client.send("still here")
        assert await client.recv() == "still here"
    await server.wait_closed()


async def test_thousand_connections_leave_nothing_behind() -> None:
    # Debug mode keeps a stack of each future, of 50 for each connection: nine tenths of the time.
    asyncio.get_running_loop().set_debug(False)
    async with serve(echo, "127.0.0.1", 0) as server:
        peers = []
        for n in range(1000):
            peer = await Peer.connect(server)
            peer.send(HEAD[: n % (len(HEAD) + 1)] if n % 3 else HEAD + frame(1, b"x"))
            peers.append(peer)
        for peer in peers:
            peer.writer.transport.abort()
        for peer in peers:
            async with peer:
                pass
        await until(lambda: not (server.handler_tasks or server.front.waiting))
        assert not server.all_connections
        assert not server.http.state.connections


async def test_keepalive_drops_a_peer_that_does_not_answer() -> None:
    async with (
        serve(echo, "127.0.0.1", 0, ping_interval=20 * MS, ping_timeout=20 * MS) as server,
        await Peer.open(server) as peer,
    ):
        assert await peer.read_close() == (1011, "keepalive ping timeout")


async def test_log_of_a_connection_is_hubbubs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serve(echo, "127.0.0.1", 0) as server, connect(url(server)):
        pass
    names = {record.name for record in caplog.records if record.message == "connection open"}
    assert "hubbub.server" in names


async def test_oversized_message_ends_with_1009_and_names_the_limit() -> None:
    async with serve(echo, "127.0.0.1", 0, max_size=1000) as server, connect(url(server)) as client:
        await client.send("x" * 1000)
        assert await client.recv() == "x" * 1000
        await client.send("x" * 1001)
        with pytest.raises(ConnectionClosedError, match=r"1009.*1001.*1000"):
            await client.recv()


@pytest.mark.skipif(sys.platform != "linux", reason="only here the kernel says its limit")
async def test_connections_that_come_at_once_wait_to_be_accepted() -> None:
    count = min(500, int(Path("/proc/sys/net/core/somaxconn").read_text()))
    poller = select.epoll()

    async with serve(echo, "127.0.0.1", 0) as server:
        with contextlib.ExitStack() as stack:
            # No turn of the loop accepts one of them meanwhile.
            for _ in range(count):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    client.connect(("127.0.0.1", port(server)))
                poller.register(client, select.EPOLLOUT)
            established = len(poller.poll(0, count))
            poller.close()

    assert established == count
