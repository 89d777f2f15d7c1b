"""The chat at a terminal: python chat_client.py NAME, then say something."""

import asyncio
import sys
from urllib.parse import quote

from centrifuge import (  # type: ignore[import-untyped]  # it ships no py.typed
    Client,
    JoinContext,
    LeaveContext,
    PublicationContext,
    SubscribedContext,
    SubscriptionEventHandler,
)


async def say(context: PublicationContext) -> None:
    print(f"{context.pub.info.user}: {context.pub.data}", flush=True)


async def greet(context: JoinContext) -> None:
    print(f"{context.info.user} came in", flush=True)


async def wave(context: LeaveContext) -> None:
    print(f"{context.info.user} left", flush=True)


async def tell(context: SubscribedContext) -> None:
    if context.was_recovering:
        print("nothing was missed" if context.recovered else "something was missed", flush=True)


async def main(name: str) -> None:
    events = SubscriptionEventHandler()
    events.on_publication, events.on_subscribed = say, tell
    events.on_join, events.on_leave = greet, wave
    client = Client(f"ws://localhost:8005/chat/{quote(name, safe='')}")
    room = client.new_subscription("chat:lobby", events)
    await room.subscribe()
    await client.connect()
    while line := await asyncio.to_thread(sys.stdin.readline):
        await room.publish(line.rstrip("\n"))
    await client.disconnect()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
