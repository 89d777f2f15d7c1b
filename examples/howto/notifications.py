"""The server subscribes its clients: to their own notices, and to projects they join."""

import asyncio
from urllib.parse import unquote

from fastapi import FastAPI

from hubbub import Client, Hub, User, serve

hub = Hub(personal="notices:{user}")
hub.channel("notices:{user}", str, subscribe="nobody", history=20)
hub.channel("news", str)
hub.channel("project:{project}", str, subscribe="nobody", history=100)
app = FastAPI()


@hub.on_connect
def connect(client: Client) -> User:
    name = unquote(client.request.path.rpartition("/")[2])  # instead of authentication
    return User(name, channels=["news"])


@app.post("/users/{name}/notices")
async def notify(name: str, text: str) -> int:
    return (await hub.publish(f"notices:{name}", text)).offset


@app.put("/projects/{project}/members/{name}")
async def join(project: str, name: str) -> None:
    channel = f"project:{project}"
    # From here on nothing is missed, however long the subscription takes.
    since = (await hub.history(channel, limit=0)).position
    await hub.add_subscription(channel, user=name, since=since)
    await hub.publish(channel, f"{name} joined")


@app.delete("/projects/{project}/members/{name}")
async def leave(project: str, name: str) -> None:
    await hub.unsubscribe(f"project:{project}", user=name)


async def main() -> None:
    async with serve({"/users/{name}": hub}, "localhost", 8005, http=app) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
