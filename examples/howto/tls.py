"""Serve wss:// and https:// with a certificate."""

import asyncio
import ssl

from hubbub import ServerConnection, serve


async def say_hello(websocket: ServerConnection) -> None:
    await websocket.send("Hello World!")


async def main() -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain("chain.pem", "key.pem")
    tls.set_alpn_protocols(["http/1.1"])
    async with serve(say_hello, "localhost", 8005, ssl=tls) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
