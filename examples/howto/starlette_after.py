"""The same echo as a handler, beside the same app."""

import asyncio

from fastapi import FastAPI

from hubbub import ServerConnection, serve

app = FastAPI()


@app.get("/about")
async def about() -> dict[str, str]:
    return {"name": "echo"}


async def echo(websocket: ServerConnection, prefix: str) -> None:
    assert websocket.request is not None  # there once the connection is open
    language = websocket.request.headers.get("Accept-Language", "none")
    await websocket.send(f"language: {language}")
    try:
        while True:
            message = await websocket.recv(decode=True)
            await websocket.send(f"{prefix} {message}")
    finally:
        print("gone")


async def main() -> None:
    async with serve({"/echo/{prefix}": echo}, "localhost", 8005, http=app) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
