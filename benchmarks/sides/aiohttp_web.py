"""aiohttp's WebSocketResponse, on uvloop, without compression."""
# aiohttp comes with the dependency group "bench", which `make check` does not need.
# mypy: disable-error-code="import-not-found"

import socket

import uvloop
from aiohttp import WSMsgType, web


async def echo(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse(compress=False)
    await websocket.prepare(request)
    async for message in websocket:
        if message.type is WSMsgType.TEXT:
            await websocket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await websocket.send_bytes(message.data)
    return websocket


def main() -> None:
    app = web.Application()
    app.add_routes([web.get("/text", echo), web.get("/binary", echo)])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        web.run_app(app, sock=listener, access_log=None, print=None, loop=uvloop.new_event_loop())


if __name__ == "__main__":
    main()
