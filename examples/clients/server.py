"""What the clients of this folder talk to."""

import asyncio

from hubbub import Client, Hub, serve

hub = Hub()
hub.channel("chat:{room}", history=100, presence=True, publish="subscribers")


@hub.rpc("add")
def add(client: Client, numbers: list[int]) -> int:
    return sum(numbers)


async def main() -> None:
    async with serve({"/connection/websocket": hub}, "localhost", 8005) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
