"""Starlette on uvicorn: httptools, uvloop, and the WebSocket protocol uvicorn picks by default."""

import socket

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket


async def echo_text(websocket: WebSocket) -> None:
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(message)


async def echo_binary(websocket: WebSocket) -> None:
    await websocket.accept()
    async for message in websocket.iter_bytes():
        await websocket.send_bytes(message)


app = Starlette(routes=[WebSocketRoute("/text", echo_text), WebSocketRoute("/binary", echo_binary)])


def main() -> None:
    config = uvicorn.Config(
        app,
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
