"""An ASGI app on a shared port under uvicorn, with all that makes it fast: uvloop, httptools."""

import socket
from typing import Any

import uvicorn

__all__ = ["serve"]


def serve(app: Any, port: int = 0) -> None:
    """Serve an app until the process is killed, and print the port; others may listen on it too."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="auto",
        ws_per_message_deflate=False,
        log_level="critical",
        access_log=False,
        backlog=4096,
    )
    with socket.create_server(("127.0.0.1", port), reuse_port=True) as listener:
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(config).run(sockets=[listener])
