"""A chat and a FastAPI app on one port."""

import asyncio
from collections import defaultdict

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from hubbub import ServerConnection, broadcast, serve

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Lobby</title>
<form><input autofocus placeholder="Say something"></form>
<pre></pre>
<script>
  const websocket = new WebSocket(`ws://${location.host}/rooms/lobby`);
  websocket.onmessage = ({ data }) => document.querySelector("pre").append(data + "\\n");
  document.querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    websocket.send(event.target[0].value);
    event.target.reset();
  };
</script>
"""

app = FastAPI()
rooms: defaultdict[str, set[ServerConnection]] = defaultdict(set)


@app.get("/")
async def page() -> HTMLResponse:
    return HTMLResponse(PAGE)


@app.post("/rooms/{room}")
async def announce(room: str, text: str) -> dict[str, int]:
    members = rooms.get(room, set())
    broadcast(members, text)
    return {"told": len(members)}


async def chat(websocket: ServerConnection, room: str) -> None:
    rooms[room].add(websocket)
    try:
        async for message in websocket:
            broadcast(rooms[room], message)
    finally:
        rooms[room].remove(websocket)


async def main() -> None:
    async with serve({"/rooms/{room}": chat}, "localhost", 8005, http=app) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
