"""Less to send: patches for large payloads that change a little, filters for those who want few."""

import asyncio
import itertools

from hubbub import Hub, serve

SYMBOLS = ["ADA", "BOB", "EVE"]

hub = Hub()
hub.channel("market", history=1, delta=True)
hub.channel("trades", tags_filter=True)


@hub.background
async def trade() -> None:
    market = {symbol: {"price": 100, "name": f"{symbol} Incorporated"} for symbol in SYMBOLS}
    for n in itertools.count():
        symbol, price = SYMBOLS[n % 3], 90 + n % 20
        market[symbol]["price"] = price
        await hub.publish("market", market)
        tags = {"symbol": symbol, "price": str(price)}
        await hub.publish("trades", {"symbol": symbol, "price": price}, tags=tags)
        await asyncio.sleep(0.5)


async def main() -> None:
    handlers = {"/connection/websocket": hub}
    async with serve(handlers, "localhost", 8005) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
