"""Log what the handler does, and less of what the library does."""

import asyncio
import logging

from hubbub import ServerConnection, serve

logger = logging.getLogger("chat")


async def echo(websocket: ServerConnection) -> None:
    logger.info("%s came from %s", websocket.id, websocket.remote_address[0])
    try:
        async for message in websocket:
            await websocket.send(message)
    finally:
        logger.info("%s left with %s", websocket.id, websocket.close_code)


async def main() -> None:
    async with serve(echo, "localhost", 8005) as server:
        await server.serve_forever()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    for name in ("hubbub.server", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    asyncio.run(main())
