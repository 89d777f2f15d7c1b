"""What hubbub has for HTTP: ASGI apps to serve beside WebSockets."""

from hubbub.http.pages import pages

__all__ = ["pages"]
