"""Everything that a client does, with centrifuge-python."""

import asyncio

from centrifuge import (  # type: ignore[import-untyped]  # it ships no py.typed
    Client,
    ClientEventHandler,
    DisconnectedContext,
    PublicationContext,
    ReplyError,
    StreamPosition,
    SubscribedContext,
    SubscriptionEventHandler,
)


async def on_disconnected(context: DisconnectedContext) -> None:
    print("disconnected:", context.code, context.reason)


async def on_subscribed(context: SubscribedContext) -> None:
    print("subscribed, recovered:", context.recovered)


async def main() -> None:
    received: asyncio.Queue[PublicationContext] = asyncio.Queue()
    events, room_events = ClientEventHandler(), SubscriptionEventHandler()
    events.on_disconnected = on_disconnected
    room_events.on_subscribed = on_subscribed
    room_events.on_publication = received.put

    client = Client("ws://localhost:8005/connection/websocket", events)
    room = client.new_subscription("chat:lobby", room_events)
    await client.connect()
    await room.subscribe()
    await room.ready()

    await room.publish({"text": "hello"})
    print("received:", (await received.get()).pub.data)
    page = await room.history(limit=10, since=StreamPosition(0, ""))
    print("history:", [publication.data for publication in page.publications])
    print("present:", len((await room.presence()).clients))
    print("added:", (await client.rpc("add", [1, 2, 3])).data)
    try:
        await client.publish("chat:attic", "from outside")
    except ReplyError as error:
        print("refused:", error.code)
    await client.disconnect()


if __name__ == "__main__":
    asyncio.run(main())
