"""Which handler a request's path belongs to; parameters of the path become keyword arguments."""

import http
import re
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from starlette.convertors import Convertor
from starlette.routing import compile_path
from websockets.http11 import Request, Response

from hubbub.server.connection import ServerConnection

__all__ = [
    "Handler",
    "ProcessRequest",
    "ProcessResponse",
    "Reporting",
    "Router",
    "Service",
    "admit_to",
]

Handler = Callable[..., Awaitable[None]]
"""A handler takes the connection, and by keyword the parameters of its path."""

ProcessRequest = Callable[[ServerConnection, Request], Awaitable[Response | None] | Response | None]
"""Sees the request of an upgrade; may answer it."""

ProcessResponse = Callable[
    [ServerConnection, Request, Response], Awaitable[Response | None] | Response | None
]
"""Sees the response to it too; may replace it."""


@runtime_checkable
class Service(Protocol):
    """A handler that has a say before its conversations begin and when the server closes."""

    def process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """See the request of an upgrade to this handler, after `serve`'s own; may answer it.

        May set the connection's limits and timeouts, and the subprotocols of its protocol.
        """

    async def drain(self, seconds: float) -> None:
        """Begin no conversations, and end those there are, spread over some seconds."""

    def stop(self) -> None:
        """End the conversations: the server is about to close the connections with 1001."""


@runtime_checkable
class Reporting(Protocol):
    """A handler that knows when clients should rather go to another server."""

    @property
    def outage(self) -> str | None:
        """Why they should at the moment, in words for an operator; `None`: they should come."""


@dataclass(frozen=True, slots=True)
class _Route:
    path: str
    pattern: re.Pattern[str]
    convertors: Mapping[str, Convertor[Any]]
    handler: Handler


class Router:
    """Maps paths to handlers.

    Args:
        handlers: Path to handler. Paths are Starlette's: `/rooms/{room}` matches one segment,
            `{id:int}` a number, `{rest:path}` any number of segments. The first match wins, in
            the mapping's order.

    Raises:
        ValueError: No path, one without a leading slash, or with an unknown convertor.
        TypeError: A handler is not callable.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        if not handlers:
            raise ValueError("handlers must map at least one path to a handler")
        self._routes = [_compile(path, handler) for path, handler in handlers.items()]

    @property
    def entrance(self) -> str:
        """The first path without parameters, for a page that wants to try one; else `/`."""
        return next((r.path for r in self._routes if not r.convertors), "/")

    def process_request(self, first: ProcessRequest | None) -> ProcessRequest:
        """Make the `process_request` that refuses unknown paths with 404 before the upgrade.

        Args:
            first: The user's own; if it answers, its answer counts.
        """

        async def process_request(
            connection: ServerConnection, request: Request
        ) -> Response | None:
            response = await _ask(first, connection, request)
            return response if response is not None else self._route(connection, request)

        return process_request

    def _route(self, connection: ServerConnection, request: Request) -> Response | None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(request.path).path)
        for route in self._routes:
            match = route.pattern.match(path)
            if match is not None:
                connection.handler = route.handler
                connection.handler_kwargs = {
                    name: route.convertors[name].convert(value)
                    for name, value in match.groupdict().items()
                }
                if isinstance(route.handler, Service):
                    return route.handler.process_request(connection, request)
                return None
        return connection.respond(http.HTTPStatus.NOT_FOUND, "Not Found\n")

    async def handle(self, connection: ServerConnection) -> None:
        """Run the handler that the connection's path belongs to."""
        await connection.handler(connection, **connection.handler_kwargs)


def admit_to(service: Service, first: ProcessRequest | None) -> ProcessRequest:
    """Make the `process_request` that asks a service.

    Args:
        service: The only handler.
        first: The user's own; if it answers, its answer counts.
    """

    async def process_request(connection: ServerConnection, request: Request) -> Response | None:
        response = await _ask(first, connection, request)
        return response if response is not None else service.process_request(connection, request)

    return process_request


async def _ask(
    process_request: ProcessRequest | None, connection: ServerConnection, request: Request
) -> Response | None:
    if process_request is None:
        return None
    response = process_request(connection, request)
    return await response if isinstance(response, Awaitable) else response


def _compile(path: str, handler: Handler) -> _Route:
    if not path.startswith("/"):
        raise ValueError(f"path must begin with a slash: {path!r}")
    if not callable(handler):
        raise TypeError(f"handler of {path!r} is not callable: {handler!r}")
    try:
        pattern, _, convertors = compile_path(path)
    except AssertionError as exc:
        raise ValueError(f"{exc} in path {path!r}") from None
    return _Route(path, pattern, convertors, handler)
