"""An issuer of tokens: an HTTP server that publishes its keys, or something worse."""

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.auth.signing import jwk
from tests.timing import MS

__all__ = ["Issuer", "issuing"]


class Issuer:
    """What the server answers; a test may change it at any time.

    Attributes:
        body: Bytes, or what becomes JSON.
        requests: How many there were.
        asked: Set when a request is there.
        answering: A request waits until this is set.
        drips: Whether the answer never ends, a byte at a time.
    """

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body: Any = {"keys": [jwk("ES256", "k1"), jwk("RSA", "k2")]}
        self.failures = 0
        self.requests = 0
        self.asked = threading.Event()
        self.answering = threading.Event()
        self.answering.set()
        self.drips = False
        self.ended = threading.Event()
        self.url = ""


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them
    issuer: Issuer


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        issuer = self.server.issuer
        issuer.requests += 1
        issuer.asked.set()
        issuer.answering.wait()
        with contextlib.suppress(OSError):  # the client has gone, as some tests want it to
            self.answer(issuer)

    def answer(self, issuer: Issuer) -> None:
        if issuer.failures:
            issuer.failures -= 1
            self.send_response(503)
            self.end_headers()
            return
        body = issuer.body if isinstance(issuer.body, bytes) else json.dumps(issuer.body).encode()
        self.send_response(issuer.status)
        for name, value in issuer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        while issuer.drips and not issuer.ended.wait(5 * MS):
            self.wfile.write(b" ")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the parent's name
        pass


@contextmanager
def issuing(tls: ssl.SSLContext | None = None) -> Iterator[Issuer]:
    """Run an issuer on a port of 127.0.0.1 until the block ends."""
    issuer = Issuer()
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.issuer = issuer
        scheme = "http"
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
            scheme = "https"
        issuer.url = f"{scheme}://127.0.0.1:{server.server_port}/keys"
        thread = threading.Thread(target=server.serve_forever, args=(10 * MS,))
        thread.start()
        try:
            yield issuer
        finally:
            issuer.ended.set()
            issuer.answering.set()
            server.shutdown()
            thread.join()
