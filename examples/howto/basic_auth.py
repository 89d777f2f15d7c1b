"""Ask for a name and a password before the WebSocket opens."""

import asyncio

from hubbub import ServerConnection, basic_auth, serve


async def greet(websocket: ServerConnection) -> None:
    await websocket.send(f"Hello {websocket.username}!")


async def main() -> None:
    auth = basic_auth(realm="hubbub", credentials=("ada", "engine"))
    async with serve(greet, "localhost", 8005, process_request=auth) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
