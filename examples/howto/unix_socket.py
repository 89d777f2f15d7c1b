"""Listen on a Unix socket."""

import asyncio

from hubbub import ServerConnection, unix_serve


async def say_hello(websocket: ServerConnection) -> None:
    await websocket.send("Hello World!")


async def main() -> None:
    async with unix_serve(say_hello, "hubbub.sock") as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
