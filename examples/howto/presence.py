"""Who is in a room, and who is typing."""

import asyncio
from urllib.parse import unquote

from fastapi import FastAPI

from hubbub import Client, Hub, PermissionDenied, User, serve

hub = Hub()
hub.channel("chat:{room}", str, history=100, presence=True, join_leave=True, publish="subscribers")
typing = hub.channel("typing:{room}", bool)
app = FastAPI()


@hub.on_connect
def connect(client: Client) -> User:
    name = unquote(client.request.path.rpartition("/")[2])  # instead of authentication
    return User(name, info={"name": name.title()})


@typing.on_publish
def may_type(client: Client, room: str) -> None:
    if f"chat:{room}" not in client.channels:
        raise PermissionDenied


@app.get("/rooms/{room}")
async def members(room: str) -> list[str]:
    present = await hub.presence(f"chat:{room}")
    return sorted({info.user for info in present.values()})


@app.get("/rooms/{room}/size")
async def size(room: str) -> dict[str, int]:
    stats = await hub.presence_stats(f"chat:{room}")
    return {"connections": stats.clients, "users": stats.users}


async def main() -> None:
    async with serve({"/users/{name}": hub}, "localhost", 8005, http=app) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
