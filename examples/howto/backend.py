"""A web application publishes to its clients, in one process and on one port."""

import asyncio
from typing import Annotated

from fastapi import FastAPI, Header
from pydantic import BaseModel

from hubbub import Hub, serve


class Order(BaseModel):
    number: int
    status: str
    version: int


hub = Hub()
hub.channel("orders:{number:int}", Order, history=10)
hub.channel("kitchen", Order, history=100, tags_filter=True)
app = FastAPI()


@app.put("/orders/{number}")
async def change(
    number: int, order: Order, idempotency_key: Annotated[str, Header()] = ""
) -> dict[str, int]:
    # Your database comes first: publish what it has accepted.
    position = await hub.publish(f"orders:{number}", order, version=order.version)
    await hub.publish(
        "kitchen", order, tags={"status": order.status}, idempotency_key=idempotency_key
    )
    return {"offset": position.offset}


@app.post("/closing")
async def close() -> None:
    closed = Order(number=0, status="closed", version=0)
    await hub.broadcast([name for name in hub.channels() if name.startswith("orders:")], closed)


async def main() -> None:
    async with serve({"/connection/websocket": hub}, "localhost", 8005, http=app) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
