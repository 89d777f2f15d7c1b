"""Methods that clients call, and messages that need no answer."""

import asyncio
from dataclasses import dataclass

from hubbub import Client, CommandError, Hub, serve

STOCK = {"tea": 3}

hub = Hub()


@dataclass
class Order:
    item: str
    count: int = 1


@hub.rpc("stock.list")
def stock(client: Client) -> dict[str, int]:
    return STOCK


@hub.rpc("stock.order")
async def order(client: Client, order: Order) -> dict[str, int]:
    if order.count > STOCK.get(order.item, 0):
        raise CommandError(410, "sold out")
    STOCK[order.item] -= order.count
    return {"left": STOCK[order.item]}


@hub.on_message
def log(client: Client, message: str) -> None:
    print(f"{client.name} says: {message}")
    client.send({"heard": len(message)})


async def main() -> None:
    async with serve({"/connection/websocket": hub}, "localhost", 8005) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
