"""An echo as a FastAPI route."""

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

app = FastAPI()


@app.get("/about")
async def about() -> dict[str, str]:
    return {"name": "echo"}


@app.websocket("/echo/{prefix}")
async def echo(websocket: WebSocket, prefix: str) -> None:
    await websocket.accept()
    language = websocket.headers.get("accept-language", "none")
    await websocket.send_text(f"language: {language}")
    try:
        while True:
            message = await websocket.receive_text()
            await websocket.send_text(f"{prefix} {message}")
    except WebSocketDisconnect:
        print("gone")


if __name__ == "__main__":
    uvicorn.run(app, host="localhost", port=8005, log_level="warning")
