"""What a server without an ASGI app answers over HTTP: a page to try it with."""

import base64
import hashlib
import html
import re
from importlib import resources

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

__all__ = ["welcome"]


def welcome(path: str) -> Starlette:
    """Make the app: `GET /` is the page; else 404 or 405.

    Args:
        path: Where the page opens its WebSocket.
    """
    page = resources.files("hubbub").joinpath("web", "welcome.html").read_text()
    page = page.replace("{path}", html.escape(path))
    headers = {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": _content_security_policy(page),
        "X-Content-Type-Options": "nosniff",
    }

    async def get_page(request: Request) -> Response:
        return HTMLResponse(page, headers=headers)

    return Starlette(routes=[Route("/", get_page)])


def _content_security_policy(page: str) -> str:
    """Allow the page its own script and style, its WebSocket, and nothing else."""

    def sources(tag: str) -> str:
        blocks = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = (hashlib.sha256(block.encode()).digest() for block in blocks)
        return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)

    # 'self' covers ws: and wss: of the same host and port (CSP Level 3 §6.7.2.8).
    return (
        f"default-src 'none'; script-src {sources('script')}; style-src {sources('style')}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
