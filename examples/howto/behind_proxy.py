"""Tell each client its address, behind a proxy on the same machine."""

import asyncio

from hubbub import ServerConnection, serve


async def whoami(websocket: ServerConnection) -> None:
    await websocket.send(str(websocket.client_address))


async def main() -> None:
    proxies = ["127.0.0.1", "::1"]
    async with serve(whoami, "localhost", 8005, trusted_proxies=proxies) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
