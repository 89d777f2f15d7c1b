"""Send back what each client sends, until it says bye."""

import asyncio

from hubbub import ServerConnection, serve


async def echo(websocket: ServerConnection) -> None:
    print("hello", websocket.id)
    try:
        async for message in websocket:
            if message == "bye":
                await websocket.close(4000, "you said bye")
            else:
                await websocket.send(message)
    finally:
        print("closed", websocket.id, websocket.close_code, websocket.close_reason)


async def main() -> None:
    async with serve(echo, "localhost", 8005) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
