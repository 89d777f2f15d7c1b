"""A hub that `hubbub verify` may publish to."""

import asyncio

from hubbub import Hub, Limits, serve

hub = Hub(limits=Limits(recovery=10_000))
hub.channel("verify:{n:int}", history=10_000, ttl=600, presence=True, publish="anyone")


async def main() -> None:
    async with serve({"/connection/websocket": hub}, "localhost", 8005) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
