"""Tell each client its address, behind a proxy that sets X-Forwarded-For."""

import asyncio

from hubbub import ServerConnection, serve


async def whoami(websocket: ServerConnection) -> None:
    assert websocket.request is not None  # there once the connection is open
    await websocket.send(websocket.request.headers["X-Forwarded-For"])


async def main() -> None:
    async with serve(whoami, "localhost", 8005) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
