"""Say hello to everybody who connects."""

import asyncio

from hubbub import ServerConnection, serve


async def say_hello(websocket: ServerConnection) -> None:
    await websocket.send("Hello World!")


async def main() -> None:
    async with serve(say_hello, "localhost", 8005) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
