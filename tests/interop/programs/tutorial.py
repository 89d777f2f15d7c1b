# The tutorial's server.py, letter by letter where it matters: only the import line is ours.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

import asyncio

from hubbub import ServerConnection, serve


async def say_hello(websocket: ServerConnection):
    await websocket.send("Hello World!")


async def main():
    async with serve(say_hello, "localhost", 8005) as server:
        await server.serve_forever()  # Run the server indefinitely


if __name__ == "__main__":
    asyncio.run(main())
