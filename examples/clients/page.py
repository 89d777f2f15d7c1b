"""A hub, and the page that talks to it."""

import asyncio
from pathlib import Path

from hubbub import Hub, serve
from hubbub.http import pages

hub = Hub()
hub.channel("chat:{room}", history=100, presence=True, join_leave=True, publish="subscribers")

routes = {"/connection/websocket": hub}
http = pages(Path(__file__).with_name("page"))


async def main() -> None:
    async with serve(routes, "localhost", 8005, http=http) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
