"""Rooms, acknowledgements and a namespace of Socket.IO, as a hub."""

import asyncio
from urllib.parse import unquote

from hubbub import Client, Hub, PermissionDenied, serve

hub = Hub()
room = hub.channel("chat:{room}", str, subscribe="nobody")  # namespace /chat and its rooms


@hub.on_connect  # @sio.on("connect")
def connect(client: Client) -> str:
    return unquote(client.request.path.rpartition("/")[2])  # instead of authentication


@hub.rpc("enter")  # @sio.on("enter", namespace="/chat"), which returns the acknowledgement
async def enter(client: Client, name: str) -> int:
    await client.subscribe(f"chat:{name}")  # await sio.enter_room(sid, name)
    await hub.publish(f"chat:{name}", f"{client.user} came in")  # await sio.emit(..., room=name)
    return hub.channels()[f"chat:{name}"]


@room.on_publish  # @sio.on("say"), with the room in the data
def say(client: Client, channel: str, message: str) -> str:
    if channel not in client.channels:
        raise PermissionDenied
    return f"{client.user}: {message}"


@hub.on_disconnect  # @sio.on("disconnect")
def bye(client: Client, code: int, reason: str) -> None:
    print(f"{client.user} left: {code} {reason}")


async def main() -> None:
    async with serve({"/chat/{name}": hub}, "localhost", 8005) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
