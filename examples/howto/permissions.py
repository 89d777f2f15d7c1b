"""Hooks decide who may subscribe, and what may be published."""

import asyncio
from urllib.parse import unquote

from hubbub import Client, CommandError, Hub, PermissionDenied, serve

TEAMS = {"red": {"ada", "grace"}, "blue": {"bob"}}

hub = Hub()
team = hub.channel("team:{team}", str, history=100, publish="subscribers")


@hub.on_connect
def connect(client: Client) -> str:
    return unquote(client.request.path.rpartition("/")[2])  # instead of authentication


@team.on_subscribe
async def may_join(client: Client, team: str) -> None:
    if client.user not in TEAMS.get(team, ()):
        raise PermissionDenied


@team.on_publish
async def moderate(client: Client, message: str) -> str:
    if len(message) > 200:
        raise CommandError(400, "at most 200 characters")
    return message.strip()


async def main() -> None:
    async with serve({"/users/{name}": hub}, "localhost", 8005) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
