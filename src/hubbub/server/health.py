"""Health over HTTP: whether the process answers, and whether it should be given clients.

`GET /healthz` is for whoever restarts what does not answer, `GET /readyz` for whoever chooses where
clients go (ADR 0018).
"""

from collections.abc import Callable
from typing import Final

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Health"]

_ALIVE: Final = "/healthz"
_READY: Final = "/readyz"


class Health:
    """An ASGI app that answers for two paths, and leaves all others to the app within.

    `/healthz`: 200 whenever it is asked. `/readyz`: 200, or 503 with the reason in words.

    Args:
        app: The app within.
        outage: Why clients should go elsewhere at the moment; `None`: they should come.
        first: Whether the two paths are taken before the app is asked. Otherwise the app is asked
            and, where it answers 404, answered for; what it has there itself stands.
    """

    def __init__(self, app: ASGIApp, outage: Callable[[], str | None], *, first: bool) -> None:
        self._app = app
        self._outage = outage
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the app answer."""
        mine = (
            scope["type"] == "http"
            and scope["path"] in (_ALIVE, _READY)
            and scope["method"] in ("GET", "HEAD")
        )
        if not mine:
            await self._app(scope, receive, send)
        elif self._first:
            await self._response(scope["path"])(scope, receive, send)
        else:
            await self._answer_for(scope, receive, send)

    async def _answer_for(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the app answer; where it knows nothing of the path, answer in its place."""
        replaced = False

        async def send_unless_unknown(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] == 404:
                replaced = True
                await self._response(scope["path"])(scope, receive, send)
            elif not replaced:
                await send(message)

        await self._app(scope, receive, send_unless_unknown)

    def _response(self, path: str) -> PlainTextResponse:
        outage = self._outage() if path == _READY else None
        text = outage or ("ready" if path == _READY else "ok")
        headers = {"Cache-Control": "no-store"}
        return PlainTextResponse(f"{text}\n", 503 if outage else 200, headers)
