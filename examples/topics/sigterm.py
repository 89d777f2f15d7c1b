"""Close the server on SIGTERM as on Ctrl+C."""

import asyncio
import signal

from hubbub import ServerConnection, serve


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


async def main() -> None:
    server = await serve(echo, "localhost", 8005)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)
    await server.wait_closed()
    print("stopped")


if __name__ == "__main__":
    asyncio.run(main())
