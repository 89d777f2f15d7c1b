"""The pages of an application: a folder of static files, and the client module beside them."""

from importlib import resources
from os import PathLike

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["pages"]

# Scripts, styles and images of this server alone, none of them inline; 'self' covers WebSockets of
# the same host and port (CSP Level 3 §6.7.2.8).
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)

_HEADERS = {
    "Cache-Control": "no-cache",  # asked for each time, sent when changed
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def pages(folder: str | PathLike[str]) -> Starlette:
    """Make an ASGI app of a folder of static pages, for `serve(..., http=pages("page"))`.

    `index.html` is answered for `/`, here and in folders. `/hubbub.js` is the client module, unless
    the folder has a file of this name. All answers carry a Content-Security-Policy that allows
    files and WebSockets of the same server alone, and nothing inline.

    Args:
        folder: It is looked into at each request: a page that is edited need only be reloaded.

    Raises:
        RuntimeError: There is no such folder.
    """
    files = StaticFiles(directory=folder, html=True)
    routes = [Mount("/", files)]
    if not files.lookup_path("hubbub.js")[0]:
        routes.insert(0, Route("/hubbub.js", _get_client))  # type: ignore[arg-type]
    return Starlette(routes=routes, middleware=[Middleware(_Headers)])


async def _get_client(request: Request) -> Response:
    module = resources.files("hubbub").joinpath("web", "hubbub.js").read_bytes()
    return Response(module, media_type="text/javascript")


class _Headers:
    """Adds the headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
