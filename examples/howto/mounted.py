"""A hub within a FastAPI application that runs under uvicorn."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from hubbub import Hub

hub = Hub()
hub.channel("news", history=100)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    async with hub:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/connection", hub.asgi)


@app.post("/news")
async def publish(text: str) -> dict[str, int]:
    position = await hub.publish("news", {"text": text})
    return {"offset": position.offset}


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, port=8005)
