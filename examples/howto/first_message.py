"""Take a token as the first message, within five seconds."""

import asyncio

from hubbub import ServerConnection, serve

TOKENS = {"q7Kx0": "ada"}  # or check a signature


async def greet(websocket: ServerConnection) -> None:
    try:
        async with asyncio.timeout(5):
            token = await websocket.recv(decode=True)
    except TimeoutError:
        await websocket.close(4001, "no token")
        return
    if token not in TOKENS:
        await websocket.close(4003, "unknown token")
        return
    await websocket.send(f"Hello {TOKENS[token]}!")


async def main() -> None:
    async with serve(greet, "localhost", 8005, max_size=4096) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
