"""A hub with one kind of channel, for anyone; the Centrifuge client protocol in JSON."""

import uvloop

from hubbub import Hub, serve

hub = Hub()
hub.channel("bench:{name}", publish="anyone")


async def main() -> None:
    async with serve({"/connection/websocket": hub}, "127.0.0.1", 0) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
