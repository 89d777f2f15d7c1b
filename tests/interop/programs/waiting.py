# A server whose connections stay open: somebody is connected when it is interrupted.

import asyncio

from hubbub import ServerConnection, serve


async def wait(websocket: ServerConnection) -> None:
    await websocket.send("ready")
    async for _ in websocket:
        pass


async def main() -> None:
    async with serve(wait, "localhost", 8005) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
