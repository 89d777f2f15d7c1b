"""A web application makes tokens; clients show them to the hub."""

import asyncio
import os
import time
from typing import Annotated, Any

import jwt
from fastapi import Cookie, Depends, FastAPI, HTTPException

from hubbub import Hub, Tokens, serve

SECRET = os.environ["HUBBUB_TOKEN_SECRET"]
SESSIONS = {"q7Kx0": "ada"}  # your session store
TEAMS = {"red": {"ada", "grace"}, "blue": {"bob"}}

hub = Hub(tokens=Tokens(secret=SECRET))
hub.channel("news", history=100)
hub.channel("team:{team}", subscribe="nobody", history=100, publish="subscribers")

app = FastAPI()


def log_in(session: Annotated[str, Cookie()] = "") -> str:
    if session not in SESSIONS:
        raise HTTPException(401)
    return SESSIONS[session]


LoggedIn = Annotated[str, Depends(log_in)]


def token(user: str, **claims: Any) -> str:
    return jwt.encode({"sub": user, "exp": int(time.time()) + 600, **claims}, SECRET)


@app.get("/token")
async def connection_token(user: LoggedIn) -> str:
    return token(user, info={"name": user.title()})


@app.get("/token/team/{team}")
async def team_token(user: LoggedIn, team: str) -> str:
    if user not in TEAMS.get(team, ()):
        raise HTTPException(403)
    return token(user, channel=f"team:{team}")


async def main() -> None:
    handlers = {"/connection/websocket": hub}
    async with serve(handlers, "localhost", 8005, http=app) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
