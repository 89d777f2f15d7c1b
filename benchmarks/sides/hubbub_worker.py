"""A worker with a hub: `hubbub_worker PORT BROKER`, whose channels keep what was published."""

import sys

import uvloop

from hubbub import Hub, serve

PORT, BROKER = sys.argv[1:]

hub = Hub(BROKER)
hub.channel("bench:{name}", publish="anyone", history=1000)


async def main() -> None:
    async with serve(
        {"/connection/websocket": hub}, "127.0.0.1", int(PORT), reuse_port=True
    ) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
