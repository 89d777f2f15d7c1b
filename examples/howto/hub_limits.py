"""A hub for small messages and many strangers."""

import asyncio

from hubbub import Hub, Limits, serve

limits = Limits(
    message_size=4096,
    channels=10,
    connections=20_000,
    commands_per_second=5,
    commands_burst=20,
)
hub = Hub(limits=limits)
hub.channel("wall", str, history=50, publish="subscribers")


async def main() -> None:
    async with serve({"/connection/websocket": hub}, "localhost", 8005) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
