"""Every way in which a connection ends, one path each."""

import asyncio

from hubbub import ServerConnection, serve


async def done(websocket: ServerConnection) -> None:
    await websocket.send("that was all")


async def broken(websocket: ServerConnection) -> None:
    raise RuntimeError("a bug in the handler")


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


async def stay(websocket: ServerConnection) -> None:
    await websocket.send("press Ctrl+C where the server runs")
    try:
        await websocket.wait_closed()
    finally:
        print("/stay was closed with", websocket.close_code)


async def flood(websocket: ServerConnection) -> None:
    count = 0
    try:
        while True:
            await websocket.send(f"{count} ".ljust(10_000, "."))
            count += 1
    finally:
        print("/flood ended after", count, "messages")


async def main() -> None:
    handlers = {"/": done, "/broken": broken, "/echo": echo, "/stay": stay, "/flood": flood}
    async with serve(handlers, "localhost", 8005, max_size=100, ping_timeout=5) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
