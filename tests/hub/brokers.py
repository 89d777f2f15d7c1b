"""Brokers that lose things or take their time, made of the one in memory."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import asynccontextmanager

from hubbub.brokers.base import Event, Receiver
from hubbub.brokers.memory import MemoryBroker
from hubbub.clock import Clock
from hubbub.model import ClientInfo, History, Join, Leave, Position, PresenceStats, Publication

__all__ = ["LossyBroker", "RemoteBroker"]


class LossyBroker(MemoryBroker):
    """Delivers only what a test lets pass.

    Attributes:
        passes: Asked for each event.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self.passes: Callable[[Event], bool] = lambda event: True
        self.receiver: Receiver | None = None

    @asynccontextmanager
    async def running(self, receiver: Receiver) -> AsyncGenerator[None]:
        self.receiver = receiver
        async with super().running(_Filter(self, receiver)):
            yield


class _Filter:
    def __init__(self, broker: LossyBroker, receiver: Receiver) -> None:
        self.broker = broker
        self.receiver = receiver

    def deliver(self, channel: str, event: Event) -> None:
        if self.broker.passes(event):
            self.receiver.deliver(channel, event)

    def control(self, message: bytes) -> None:
        self.receiver.control(message)

    def suspect(self, channels: Collection[str] | None) -> None:
        self.receiver.suspect(channels)


class RemoteBroker:
    """A broker that is not local: every call suspends, and can be held up by its name.

    Attributes:
        memory: What it is made of; lossy.
        calls: Names of the methods called, in order.
    """

    local = False
    alone = False
    outage = None

    def __init__(self, clock: Clock | None = None) -> None:
        self.memory = LossyBroker(clock=clock)
        self.calls: list[str] = []
        self.presence_ttls: list[float | None] = []
        self._held: dict[str, asyncio.Event] = {}
        self._entered: dict[str, asyncio.Event] = {}

    def hold(self, name: str) -> None:
        """Let calls of a method wait from now on."""
        self._held[name] = asyncio.Event()
        self._entered[name] = asyncio.Event()

    async def entered(self, name: str) -> None:
        """Wait until a call of a method that is held has come."""
        await self._entered[name].wait()

    def release(self, name: str) -> None:
        """Let them go on."""
        self._held.pop(name).set()

    async def _suspend(self, name: str) -> None:
        self.calls.append(name)
        await asyncio.sleep(0)
        held = self._held.get(name)
        if held is not None:
            self._entered[name].set()
            await held.wait()

    @asynccontextmanager
    async def running(self, receiver: Receiver) -> AsyncGenerator[None]:
        async with self.memory.running(receiver):
            yield

    async def subscribe(self, channels: Collection[str]) -> None:
        await self._suspend("subscribe")
        await self.memory.subscribe(channels)

    async def unsubscribe(self, channels: Collection[str]) -> None:
        await self._suspend("unsubscribe")
        await self.memory.unsubscribe(channels)

    async def publish(
        self,
        channel: str,
        publication: Publication,
        *,
        history_size: int = 0,
        history_ttl: float = 0.0,
        meta_ttl: float = 2_592_000.0,
        idempotency_key: str = "",
        version: int = 0,
        version_epoch: str = "",
    ) -> Position:
        await self._suspend("publish")
        return await self.memory.publish(
            channel,
            publication,
            history_size=history_size,
            history_ttl=history_ttl,
            meta_ttl=meta_ttl,
            idempotency_key=idempotency_key,
            version=version,
            version_epoch=version_epoch,
        )

    async def announce(self, channel: str, event: Join | Leave) -> None:
        await self._suspend("announce")
        await self.memory.announce(channel, event)

    async def history(
        self,
        channel: str,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
        meta_ttl: float = 2_592_000.0,
    ) -> History:
        page = await self.memory.history(
            channel, since=since, limit=limit, reverse=reverse, meta_ttl=meta_ttl
        )
        # Afterwards: what is published meanwhile is not in the page.
        await self._suspend("history")
        return page

    async def remove_history(self, channel: str) -> None:
        await self._suspend("remove_history")
        await self.memory.remove_history(channel)

    async def add_presence(
        self, channel: str, client: str, info: ClientInfo, ttl: float | None
    ) -> None:
        self.presence_ttls.append(ttl)
        await self._suspend("add_presence")
        await self.memory.add_presence(channel, client, info, ttl)

    async def remove_presence(self, channel: str, client: str) -> None:
        await self._suspend("remove_presence")
        await self.memory.remove_presence(channel, client)

    async def presence(self, channel: str) -> Mapping[str, ClientInfo]:
        await self._suspend("presence")
        return await self.memory.presence(channel)

    async def presence_stats(self, channel: str) -> PresenceStats:
        await self._suspend("presence_stats")
        return await self.memory.presence_stats(channel)

    async def send_control(self, message: bytes) -> None:
        await self._suspend("send_control")
        await self.memory.send_control(message)
