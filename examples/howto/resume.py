"""Read a channel's history in pages, and go on from a position that was kept."""

import asyncio
from dataclasses import dataclass

from hubbub import Hub, Position


@dataclass
class Order:
    number: int


hub = Hub()
orders = hub.channel("orders", Order, history=1000, ttl=3600)


async def read_all() -> Position:
    position = Position()  # before the first publication of any stream
    while page := (await hub.history("orders", since=position, limit=2)).publications:
        print("page:", [orders.decode(publication).number for publication in page])
        position = page[-1].position
    return position


async def go_on(since: Position) -> Position:
    async with hub.subscribe("orders", since=since) as publications:
        async for publication in publications:
            order = orders.decode(publication)
            print("order:", order.number)
            if order.number == 7:
                break
    return publications.position or since  # keep it where your data is


async def main() -> None:
    async with hub:  # `serve` does this for the hubs that it serves
        for number in range(1, 6):
            await hub.publish("orders", Order(number))
        position = await read_all()
        await hub.publish("orders", Order(6))  # nobody listens
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(go_on(position))
            await hub.publish("orders", Order(7))
        print("offset:", listening.result().offset)


if __name__ == "__main__":
    asyncio.run(main())
