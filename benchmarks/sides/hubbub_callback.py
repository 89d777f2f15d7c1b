"""hubbub with a callback for each message, which no task is woken for."""

import uvloop

from hubbub import ServerConnection, serve


async def echo(websocket: ServerConnection) -> None:
    websocket.on_message(websocket.send_nowait)
    await websocket.wait_closed()


async def main() -> None:
    async with serve(echo, "127.0.0.1", 0, compression=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
