"""python-socketio under uvicorn: rooms, events with an ack, WebSocket from the start.

As a worker: `socketio_uvicorn PORT BROKER`, with its Redis manager.
"""
# python-socketio comes with the dependency group "bench", which `make test` does not need.
# mypy: disable-error-code="import-not-found,import-untyped"

import sys
from typing import Any

import socketio

from benchmarks.sides.uvicorn_worker import serve

PORT, BROKER = sys.argv[1:] or ("0", "")

server = socketio.AsyncServer(
    async_mode="asgi",
    transports=["websocket"],
    client_manager=socketio.AsyncRedisManager(BROKER) if BROKER else None,
)


async def subscribe(sid: str, channel: str) -> str:
    await server.enter_room(sid, channel)
    return "ok"


async def publish(sid: str, channel: str, data: Any) -> str:
    await server.emit("message", data, room=channel)
    return "ok"


def main() -> None:
    server.on("subscribe", subscribe)
    server.on("publish", publish)
    serve(socketio.ASGIApp(server), int(PORT))


if __name__ == "__main__":
    main()
