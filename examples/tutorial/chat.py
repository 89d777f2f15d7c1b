"""The chat once more, as a hub: rooms with history, recovery and presence."""

import asyncio
from pathlib import Path
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

from hubbub import Client, Hub, serve

hub = Hub()
hub.channel("chat:{room}", str, history=100, presence=True, join_leave=True, publish="subscribers")


@hub.on_connect
def name(client: Client) -> str:
    return unquote(client.request.path.rpartition("/")[2])


def page(request: Request) -> FileResponse:
    return FileResponse(Path(__file__).with_name("chat.html"))


async def main() -> None:
    app = Starlette(routes=[Route("/", page)])
    async with serve({"/chat/{name}": hub}, "localhost", 8005, http=app) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
