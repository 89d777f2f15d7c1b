"""Serve on a port that other processes serve on too."""

import asyncio
import os

from hubbub import ServerConnection, serve


async def whoami(websocket: ServerConnection) -> None:
    await websocket.send(f"process {os.getpid()}")


async def main() -> None:
    async with serve(whoami, "127.0.0.1", 8005, reuse_port=True) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
