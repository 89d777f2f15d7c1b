"""Connect to the server and print what it says."""

import asyncio

from websockets.asyncio.client import connect


async def main() -> None:
    async with connect("ws://localhost:8005") as websocket:
        async for message in websocket:
            print(message)


if __name__ == "__main__":
    asyncio.run(main())
