"""The server: what listens, and the life of everything behind it."""

import asyncio
import contextlib
import functools
import logging
import re
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, cast

from starlette.types import ASGIApp
from websockets.asyncio import server as parent
from websockets.exceptions import ConnectionClosed, InvalidHeader
from websockets.extensions.base import ServerExtensionFactory
from websockets.frames import CloseCode
from websockets.http11 import SERVER, Request, Response
from websockets.protocol import OPEN
from websockets.typing import LoggerLike, Origin, PathLike, Subprotocol

from hubbub.server.compression import enable_deflate
from hubbub.server.connection import ServerConnection
from hubbub.server.front import Front
from hubbub.server.health import Health
from hubbub.server.http import HTTPService
from hubbub.server.listeners import Listeners
from hubbub.server.proxies import ForwardedScope, TrustedProxies
from hubbub.server.routing import (
    Handler,
    ProcessRequest,
    ProcessResponse,
    Reporting,
    Router,
    Service,
    admit_to,
)
from hubbub.server.wakeup import wake_for_signals
from hubbub.server.welcome import welcome

__all__ = ["Server", "serve", "unix_serve"]

OPENING_TIME = 1.0
"""Seconds that accepted connections have to open before a drain goes on."""

# Connections that may wait to be accepted; the kernel takes fewer if its own limit is lower. With
# asyncio's 100 it drops most packets of 5,000 clients that come back at once, which they repeat
# after 1, 3, 7, ... seconds: some were not back within a minute (`make bench ARGS="--only storm"`
# takes ten seconds).
BACKLOG = 4096


class Server(parent.Server):
    """WebSocket and HTTP server returned by `serve`.

    As `websockets.asyncio.server.Server`, which mirrors `asyncio.Server`; and it owns what lives
    exactly as long as it: the ASGI app's lifespan, and handlers that are context managers.

    Attributes:
        http: Serves the requests that are no WebSocket upgrade.
        front: Where connections are until their first request has been read.
        proxies: Whose word counts for who the client is.
    """

    def __init__(
        self,
        create_server: Callable[[], Coroutine[Any, Any, asyncio.Server]],
        handler: Callable[[parent.ServerConnection], Coroutine[Any, Any, None]],
        logger: LoggerLike | None = None,
        *,
        http: HTTPService,
        contexts: Sequence[contextlib.AbstractAsyncContextManager[Any]] = (),
        services: Sequence[Service] = (),
        reporting: Sequence[Reporting] = (),
        proxies: TrustedProxies | None = None,
        open_timeout: float | None = 10,
        close_timeout: float | None = 10,
    ) -> None:
        super().__init__(create_server, handler, logger)
        self.http = http
        self.front = Front(http, open_timeout)
        self.proxies = proxies or TrustedProxies()
        self._contexts = (http, *contexts)
        self._services = services
        self._reporting = reporting
        self._withdrawn: str | None = None
        self._close_timeout = close_timeout
        self._root: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._opening = False

    def is_serving(self) -> bool:
        """Whether requests are accepted: from listening until closing, or draining, has begun."""
        return self._opening or super().is_serving()

    async def drain(self, seconds: float) -> None:
        """Stop listening, and have hubs end their sessions little by little; then call `close`.

        Connections that were accepted before still open, so that nobody is turned away who could
        be served. Handlers that are no hub and HTTP go on.

        Args:
            seconds: How long the sessions' ends are spread over, see `Hub.drain`; 0: at once.

        Cancelled: the server does not listen any more; sessions that were not ended go on.
        """
        if self._withdrawn is None:
            self.withdraw()
        self._opening = True
        self.server.close()
        try:
            if seconds:
                await self.front.wait_opened(OPENING_TIME)
        finally:
            self._opening = False
        async with asyncio.TaskGroup() as group:
            for service in self._services:
                group.create_task(service.drain(seconds))

    @property
    def outage(self) -> str | None:
        """Why new clients should go elsewhere at the moment, as `/readyz` answers; `None`: here.

        The server closes, was withdrawn, or a handler such as a hub has an `outage`.
        """
        if self.close_task is not None:
            return "closing"
        if self._withdrawn is not None:
            return self._withdrawn
        return next((each.outage for each in self._reporting if each.outage is not None), None)

    def withdraw(self, reason: str = "draining") -> None:
        """Have `/readyz` answer 503 from now on, and serve on in all else.

        Called some seconds before `close`, it lets load balancers stop sending clients first.

        Args:
            reason: What `/readyz` says.
        """
        self._withdrawn = reason

    async def serve_forever(self) -> None:
        """Serve until cancelled or closed.

        Ctrl+C in a program run by `asyncio.run` cancels it: the server closes, its clients get
        1001 (going away), and unlike otherwise in Python no traceback is printed (ADR 0006).
        """
        try:
            await super().serve_forever()
        except asyncio.CancelledError:
            _expect_keyboard_interrupt()
            raise

    async def wait_closed(self) -> None:
        """Wait until the server is closed and everything that lived with it has ended."""
        await super().wait_closed()
        if self._root is not None:
            await asyncio.shield(self._root)

    async def _await(self) -> Self:
        if self._root is None:
            # glibc maps and unmaps the 256 KiB that each read of asyncio's loop asks for, until a
            # block as large has once been freed: twice the CPU time for echo on a new server.
            bytes(1 << 20)
            wake_for_signals()
            loop = asyncio.get_running_loop()
            entered = loop.create_future()
            self._root = loop.create_task(self._live(entered))
            try:
                await entered
                await super()._await()
            except BaseException:
                self._ended.set()
                await self._root
                raise
        return self

    async def _live(self, entered: asyncio.Future[None]) -> None:
        """Enter and leave, in one task as context managers require, what lives with the server."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                for context in self._contexts:
                    await stack.enter_async_context(context)
            except Exception as exc:
                entered.set_exception(exc)
                return
            entered.set_result(None)
            await self._ended.wait()

    async def _close(
        self,
        close_connections: bool = True,
        code: CloseCode | int = CloseCode.GOING_AWAY,
        reason: str = "",
    ) -> None:
        self.server.close()
        if close_connections:
            for service in self._services:
                service.stop()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.front.close())
                group.create_task(self.http.drain(self._close_timeout))
                await super()._close(close_connections, code, reason)
        finally:
            self._ended.set()


def serve(
    handler: Handler | Mapping[str, Handler],
    host: str | None = None,
    port: int | None = None,
    *,
    # WebSocket
    origins: Sequence[Origin | re.Pattern[str] | None] | None = None,
    extensions: Sequence[ServerExtensionFactory] | None = None,
    subprotocols: Sequence[Subprotocol] | None = None,
    select_subprotocol: (
        Callable[[ServerConnection, Sequence[Subprotocol]], Subprotocol | None] | None
    ) = None,
    compression: str | None = None,
    # HTTP
    http: ASGIApp | None = None,
    health: bool | None = None,
    process_request: ProcessRequest | None = None,
    process_response: ProcessResponse | None = None,
    server_header: str | None = SERVER,
    trusted_proxies: Sequence[str] = (),
    # Timeouts
    open_timeout: float | None = 10,
    ping_interval: float | None = 20,
    ping_timeout: float | None = 20,
    close_timeout: float | None = 10,
    # Limits
    max_size: int | tuple[int | None, int | None] | None = 2**20,
    max_queue: int | tuple[int | None, int | None] | None = 16,
    write_limit: int | tuple[int, int | None] = 2**15,
    # Logging
    logger: LoggerLike | None = None,
    # Escape hatch for advanced customization
    create_connection: type[ServerConnection] | None = None,
    # Other keyword arguments are passed to loop.create_server
    **kwargs: Any,
) -> Server:
    """Create a server for WebSocket and HTTP on one port.

    Names, defaults and meanings are those of `websockets.asyncio.server.serve`, except that
    compression is off by default (ADR 0005). Use it in any of three ways:

        async with serve(handler, "localhost", 8005) as server:
            await server.serve_forever()

        server = await serve(handler, "localhost", 8005)
        ...
        server.close()
        await server.wait_closed()

    Args:
        handler: Runs for each connection; when it returns, the connection is closed with 1000,
            when it raises, with 1011, and the exception is logged. Or a mapping of paths to
            handlers: `{"/": hello, "/rooms/{room}": room}` calls `room(websocket, room=...)`; the
            first path that matches wins, `{id:int}` takes a number, `{rest:path}` any number of
            segments, other paths are answered 404. A handler that is an asynchronous context
            manager is entered before the server listens and left after the last connection,
            unless its attribute `running` is true. One that has the methods of
            `hubbub.server.routing.Service`, such as a hub, is asked before each upgrade to it and
            told when the server closes.
        host: Interfaces to listen on; `None`: all.
        port: TCP port; 0: any free one, see `Server.sockets`.
        origins: Acceptable values of the `Origin` header, exact or as patterns; with `None` among
            them it may be absent. `None`: any. Others are refused with 403.
        extensions: Supported extensions, in order of preference.
        subprotocols: Supported subprotocols, in order of preference.
        select_subprotocol: Chooses one of those that the client offers.
        compression: `"deflate"` turns on permessage-deflate without context takeover and with
            4 KiB windows; such connections leave the hot path. `None`: off.
        http: ASGI app for requests that are no WebSocket upgrade, with its lifespan. `None`: a
            page to try the server with at `/`.
        health: Whether `/healthz` and `/readyz` (see `Server.outage`) are answered. `None`: where
            the app has nothing, that is, in the place of its 404; `True`: before it is asked, for
            an app that answers every path; `False`: no.
        process_request: Called with the connection and the request of an upgrade; may answer it.
        process_response: Called with the response too; may replace it.
        server_header: Value of the `Server` header; `None`: no such header.
        trusted_proxies: Addresses and networks (`10.0.0.0/8`) of proxies, and `unix` for those on a
            Unix socket, that are believed when they say in `X-Forwarded-For`, `-Proto` and `-Host`
            or in `Forwarded` (RFC 7239) who the client is: `ServerConnection.client_address`, and
            `client` and `scheme` for the app. Others' headers are ignored.
        open_timeout: Seconds for the request's head, and again for the handshake; `None`: no limit.
        ping_interval: Seconds between keepalive pings; `None`: no keepalive.
        ping_timeout: Seconds to wait for a pong, and for a peer that stopped reading to take any
            data; `None`: no limit.
        close_timeout: Seconds for the closing handshake, and for HTTP responses when the server
            closes; `None`: no limit.
        max_size: Largest message in bytes, after inflation; more ends the connection with 1009. A
            tuple limits messages and fragments separately. `None`: no limit.
        max_queue: Messages (of fragments: frames) queued for `recv` before reading pauses; a
            tuple sets where it resumes too. `None`: no limit.
        write_limit: Bytes that may wait to be sent before `send` waits; a tuple sets where it
            resumes too.
        logger: Defaults to `logging.getLogger("hubbub.server")`.
        create_connection: A subclass of `ServerConnection`, or what makes one.
        **kwargs: For `loop.create_server`: `ssl`, `sock`, `reuse_port`, `backlog`, ... `sock` may
            be a sequence of sockets.

    Raises:
        TypeError: A handler is not callable, `create_connection` makes something else.
        ValueError: A path or the name of a compression cannot be used.
        ConfigError: One of `trusted_proxies` is none of these.
        StartupError: On entering: the ASGI app's startup failed.
        OSError: On entering: the address cannot be listened on.
    """
    if compression == "deflate":
        extensions = enable_deflate(extensions)
    elif compression is not None:
        raise ValueError(f"compression must be 'deflate' or None, not {compression!r}")
    if isinstance(create_connection, type) and not issubclass(create_connection, ServerConnection):
        raise TypeError(f"{create_connection!r} is not a subclass of hubbub.ServerConnection")
    kwargs.setdefault("backlog", BACKLOG)

    router = Router(handler) if isinstance(handler, Mapping) else None
    if router is not None:
        process_request = router.process_request(process_request)
    elif isinstance(handler, Service):
        process_request = admit_to(handler, process_request)
    handlers = list(handler.values()) if isinstance(handler, Mapping) else [handler]
    app = http if http is not None else welcome(router.entrance if router is not None else "/")
    layers: list[Callable[[ASGIApp], ASGIApp]] = []
    if health is not False:
        layers.append(lambda app: Health(app, lambda: server.outage, first=health is True))

    proxies = TrustedProxies(trusted_proxies)
    if proxies:
        layers.append(lambda app: ForwardedScope(app, proxies))

    def make_connection(protocol: Any, engine: Any, **options: Any) -> ServerConnection:
        return (create_connection or ServerConnection)(protocol, server, **options)

    make_engine: Callable[..., parent.Server] = functools.partial(
        parent.serve,
        _end_normally(router.handle if router is not None else handlers[0]),
        host,
        port,
        origins=origins,
        extensions=extensions,
        subprotocols=subprotocols,
        select_subprotocol=cast("Any", select_subprotocol),
        compression=None,
        process_request=cast("Any", process_request),
        process_response=cast("Any", _name_version(process_response)),
        server_header=server_header,
        open_timeout=open_timeout,
        ping_interval=ping_interval,
        ping_timeout=ping_timeout,
        close_timeout=close_timeout,
        max_size=max_size,
        max_queue=max_queue,
        write_limit=write_limit,
        logger=logger or logging.getLogger("hubbub.server"),
        create_connection=cast("Any", make_connection),
    )
    socks = kwargs.pop("sock", None)
    # The engine can listen on one socket that was made before, so each has an engine.
    engines = [
        make_engine(**kwargs, **({} if sock is None else {"sock": sock}))
        for sock in (socks if isinstance(socks, Sequence) else [socks])
    ]
    engine = engines[0]

    async def listen() -> asyncio.Server:
        if len(engines) == 1:
            return await engine.create_server()
        listening = [await each.create_server() for each in engines]
        return cast("asyncio.Server", Listeners(listening))

    server = Server(
        listen,
        engine.handler,
        engine.logger,
        http=HTTPService(app, server_header=server_header, layers=layers),
        contexts=_contexts(handlers),
        services=_services(handlers),
        reporting=_reporting(handlers),
        proxies=proxies,
        open_timeout=open_timeout,
        close_timeout=close_timeout,
    )
    # The engine's functions keep their books in the engine; it never listens itself.
    server.all_connections = engine.all_connections
    server.handler_tasks = engine.handler_tasks
    for other in engines[1:]:
        other.all_connections = engine.all_connections
        other.handler_tasks = engine.handler_tasks
    return server


def unix_serve(
    handler: Handler | Mapping[str, Handler],
    path: PathLike | None = None,
    **kwargs: Any,
) -> Server:
    """Create a server that listens on a Unix socket, for example behind nginx.

    Args:
        handler: As for `serve`.
        path: File system path of the socket.
        **kwargs: As for `serve`.
    """
    return serve(handler, unix=True, path=path, **kwargs)


def _contexts(handlers: Sequence[Handler]) -> list[contextlib.AbstractAsyncContextManager[Any]]:
    """Find the handlers to enter: each once, in order."""
    candidates: dict[object, None] = dict.fromkeys(handlers)
    return [
        candidate
        for candidate in candidates
        if isinstance(candidate, contextlib.AbstractAsyncContextManager)
        and not getattr(candidate, "running", False)
    ]


def _services(handlers: Sequence[object]) -> list[Service]:
    """Find the handlers to tell when the server closes: each once, in order."""
    return [each for each in dict.fromkeys(handlers) if isinstance(each, Service)]


def _reporting(handlers: Sequence[object]) -> list[Reporting]:
    """Find the handlers that say when they cannot serve: each once, in order."""
    return [each for each in dict.fromkeys(handlers) if isinstance(each, Reporting)]


def _end_normally(handler: Handler) -> Handler:
    """Let a handler end by the `ConnectionClosed` of its own connection.

    A lost peer is a normal end. The parent logs a traceback for it, at twice the cost of a reset.
    """

    async def run(connection: ServerConnection) -> None:
        try:
            await handler(connection)
        except ConnectionClosed:
            if connection.protocol.state is OPEN:
                raise  # some other connection's, to another server

    return run


def _name_version(process_response: ProcessResponse | None) -> ProcessResponse:
    """Answer an unknown version of the protocol with 426 and ours (RFC 6455 §4.2.2).

    The parent answers 400, which tells the client nothing.
    """

    def name_version(
        connection: ServerConnection, request: Request, response: Response
    ) -> Awaitable[Response | None] | Response | None:
        exc = connection.protocol.handshake_exc
        if isinstance(exc, InvalidHeader) and exc.name == "Sec-WebSocket-Version":
            response.status_code = HTTPStatus.UPGRADE_REQUIRED
            response.reason_phrase = HTTPStatus.UPGRADE_REQUIRED.phrase
            response.headers["Upgrade"] = "websocket"
            response.headers["Sec-WebSocket-Version"] = "13"
        return process_response(connection, request, response) if process_response else None

    return name_version


def _expect_keyboard_interrupt() -> None:
    """Have the `KeyboardInterrupt` that is on its way end the interpreter without a traceback."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _print_all_but_interrupt


def _print_all_but_interrupt(
    kind: type[BaseException], exc: BaseException, traceback: TracebackType | None
) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, exc, traceback)
