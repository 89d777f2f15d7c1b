"""A hub knows its users by the session cookie of the web application."""

import asyncio
import time
from http.cookies import SimpleCookie

from hubbub import Client, Disconnect, Hub, User, serve

SESSIONS = {"q7Kx0": "ada"}  # your session store

hub = Hub(origins=["https://chat.example.com"])
hub.channel("news")


@hub.on_connect
async def connect(client: Client) -> User:
    cookies = SimpleCookie(client.request.headers.get("Cookie", ""))
    session = cookies["session"].value if "session" in cookies else ""
    if session not in SESSIONS:
        raise Disconnect(4501, "log in first")
    user = SESSIONS[session]
    client.meta = session
    return User(user, info={"name": user.title()}, expires_at=time.time() + 600)


@hub.on_refresh
async def refresh(client: Client) -> User | None:
    if client.meta not in SESSIONS:
        return None
    return User(client.user, info=client.info, expires_at=time.time() + 600)


async def main() -> None:
    async with serve({"/connection/websocket": hub}, "localhost", 8005) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
