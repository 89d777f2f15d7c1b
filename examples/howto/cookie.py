"""Accept who has a session cookie, from a page of ours."""

import asyncio
from http import HTTPStatus
from http.cookies import SimpleCookie

from websockets.http11 import Request, Response
from websockets.typing import Origin

from hubbub import ServerConnection, serve

SESSIONS = {"q7Kx0": "ada"}  # your session store
ORIGINS = [Origin("http://localhost:8005"), Origin("https://chat.example.com")]


def authenticate(connection: ServerConnection, request: Request) -> Response | None:
    cookies = SimpleCookie(request.headers.get("Cookie", ""))
    session = cookies["session"].value if "session" in cookies else ""
    if session not in SESSIONS:
        return connection.respond(HTTPStatus.UNAUTHORIZED, "Log in first.\n")
    connection.username = SESSIONS[session]
    return None


async def greet(websocket: ServerConnection) -> None:
    await websocket.send(f"Hello {websocket.username}!")


async def main() -> None:
    async with serve(
        greet, "localhost", 8005, origins=ORIGINS, process_request=authenticate
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
