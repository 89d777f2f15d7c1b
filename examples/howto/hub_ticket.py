"""A hub knows its users by tickets of your own, which clients renew."""

import asyncio
import time

import msgspec

from hubbub import Client, ConnectRequest, Disconnect, DisconnectCode, Hub, User, serve

TICKETS = {"t-9f2": "ada", "t-a07": "ada"}  # your database

hub = Hub()
hub.channel("news")


def user_of(ticket: str) -> User | None:
    if ticket not in TICKETS:
        return None
    return User(TICKETS[ticket], expires_at=time.time() + 600)


@hub.on_connect
async def connect(client: Client, request: ConnectRequest) -> User:
    user = user_of(request.token)
    if user is None:
        raise Disconnect(DisconnectCode.INVALID_TOKEN)
    if request.data:
        client.meta = msgspec.json.decode(request.data)
    return user


@hub.on_refresh
async def refresh(client: Client, token: str) -> User | None:
    return user_of(token)


async def main() -> None:
    async with serve({"/connection/websocket": hub}, "localhost", 8005) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
