"""`websockets.broadcast` to the connections of a topic; a message is a topic and a payload."""

from collections import defaultdict

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

topics: defaultdict[str, set[ServerConnection]] = defaultdict(set)


async def handle(websocket: ServerConnection) -> None:
    assert websocket.request is not None
    if websocket.request.path == "/publish":
        await publish(websocket)
    else:
        await subscribe(websocket, websocket.request.path.removeprefix("/subscribe/"))


async def subscribe(websocket: ServerConnection, topic: str) -> None:
    topics[topic].add(websocket)
    try:
        await websocket.wait_closed()
    finally:
        topics[topic].discard(websocket)


async def publish(websocket: ServerConnection) -> None:
    async for message in websocket:
        assert isinstance(message, str)
        topic, _, payload = message.partition(" ")
        broadcast(topics[topic], payload)


async def main() -> None:
    async with serve(handle, "127.0.0.1", 0, compression=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
