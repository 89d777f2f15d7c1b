"""A history that outlives the process: run it twice."""

import asyncio
import os

from hubbub import Hub

hub = Hub("sqlite:///starts.db")
hub.channel("starts", history=100, ttl=86_400)  # a day


async def main() -> None:
    async with hub:  # `serve` does this for the hubs that it serves
        position = await hub.publish("starts", {"pid": os.getpid()})
        page = await hub.history("starts")
        print(f"start {position.offset}, {len(page.publications)} in the history")


if __name__ == "__main__":
    asyncio.run(main())
