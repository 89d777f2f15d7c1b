"""A chat with rooms: everybody in a room hears what anybody in it says."""

import asyncio
from collections import defaultdict

from hubbub import ServerConnection, broadcast, serve

rooms: defaultdict[str, set[ServerConnection]] = defaultdict(set)


async def chat(websocket: ServerConnection, room: str, name: str) -> None:
    members = rooms[room]
    members.add(websocket)
    broadcast(members, f"{name} came in")
    try:
        async for message in websocket:
            broadcast(members, f"{name}: {message!s}")
    finally:
        members.remove(websocket)
        broadcast(members, f"{name} left")
        if not members:
            del rooms[room]


async def main() -> None:
    handlers = {"/rooms/{room}/{name}": chat}
    async with serve(handlers, "localhost", 8005) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
