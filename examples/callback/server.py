"""Echo by a callback: no task wakes for a message."""

import asyncio

from hubbub import ServerConnection, serve


async def echo(websocket: ServerConnection) -> None:
    websocket.on_message(websocket.send_nowait)
    await websocket.wait_closed()


async def main() -> None:
    async with serve(echo, "localhost", 8005) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
