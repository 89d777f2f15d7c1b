"""Messages of a type: what does not fit is refused before any code of yours runs."""

import asyncio
from typing import Annotated

import msgspec
from msgspec import Meta

from hubbub import Client, CommandError, Hub, serve


class Bid(msgspec.Struct, forbid_unknown_fields=True):
    amount: Annotated[int, Meta(gt=0)]
    bidder: str = ""


hub = Hub()
auction = hub.channel("auction:{item:int}", Bid, history=50)
highest: dict[int, int] = {}


@auction.on_publish
def bid(client: Client, item: int, message: Bid) -> Bid:
    if message.amount <= highest.get(item, 0):
        raise CommandError(409, f"the highest bid is {highest[item]}")
    highest[item] = message.amount
    return Bid(message.amount, bidder=client.user or "somebody")


@hub.background
async def report() -> None:
    async with hub.subscribe("auction:7") as bids:
        async for publication in bids:
            taken = auction.decode(publication)
            print(f"{taken.bidder} bids {taken.amount}")


async def main() -> None:
    handlers = {"/connection/websocket": hub}
    async with serve(handlers, "localhost", 8005) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
