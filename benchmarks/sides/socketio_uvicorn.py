"""python-socketio under uvicorn: rooms, events with an ack, WebSocket from the start."""
# python-socketio comes with the dependency group "bench", which `make check` does not need.
# mypy: disable-error-code="import-not-found,import-untyped"

import socket
from typing import Any

import socketio
import uvicorn

server = socketio.AsyncServer(async_mode="asgi", transports=["websocket"])


async def subscribe(sid: str, channel: str) -> str:
    await server.enter_room(sid, channel)
    return "ok"


async def publish(sid: str, channel: str, data: Any) -> str:
    await server.emit("message", data, room=channel)
    return "ok"


def main() -> None:
    server.on("subscribe", subscribe)
    server.on("publish", publish)
    config = uvicorn.Config(
        socketio.ASGIApp(server),
        loop="uvloop",
        http="httptools",
        ws="auto",
        ws_per_message_deflate=False,
        log_level="critical",
        access_log=False,
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
