"""The echo server under test, a child process: `python -m tests.autobahn.server LIBRARY MODE`.

Writes the port that it listens on, and serves until it is killed.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as websockets_serve

from hubbub import serve as hubbub_serve

__all__: list[str] = []

# Cases 9.1.6 and 9.2.6 send 16 MiB in one message.
MAX_SIZE = 16 * 1024 * 1024


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


async def main(library: str, mode: str) -> None:
    serves: dict[str, Callable[..., Any]] = {"hubbub": hubbub_serve, "websockets": websockets_serve}
    compression = {"plain": None, "deflate": "deflate"}[mode]
    async with serves[library](
        echo,
        "127.0.0.1",
        0,
        compression=compression,
        max_size=MAX_SIZE,
        ping_interval=None,  # a ping of ours is not among the events that the cases expect
        server_header=f"{library} {mode}",  # reports name the server by this header
    ) as server:
        _, port = next(iter(server.sockets)).getsockname()
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        await server.serve_forever()


if __name__ == "__main__":
    if sys.platform == "win32":
        asyncio.run(main(*sys.argv[1:]))
    else:
        import uvloop

        uvloop.run(main(*sys.argv[1:]))
