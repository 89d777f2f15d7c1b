"""Serve on the socket that systemd has opened, and stop on SIGTERM."""

import asyncio
import os
import signal
import socket

from hubbub import ServerConnection, serve

FIRST_FD = 3  # sd_listen_fds(3): passed descriptors begin here


async def say_hello(websocket: ServerConnection) -> None:
    await websocket.send("Hello World!")


def inherited_socket() -> socket.socket:
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        raise SystemExit("start me by socket activation, with one socket")
    return socket.socket(fileno=FIRST_FD)


async def main() -> None:
    server = await serve(say_hello, sock=inherited_socket())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(main())
