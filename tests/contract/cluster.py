"""A broker of several nodes within one process, whose calls suspend and deliver later.

It has what the checks of real ones need: nodes that come and go, and a store that they share.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from hubbub.brokers.base import Event, Receiver
from hubbub.brokers.memory import MemoryBroker
from hubbub.clock import Clock
from hubbub.model import ClientInfo, History, Join, Leave, Position, PresenceStats, Publication

__all__ = ["ClusterBroker", "ClusterStore"]


class ClusterStore:
    """What the nodes share."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.memory = MemoryBroker(clock=clock)
        self.nodes: list[ClusterBroker] = []
        self._running = AsyncExitStack()

    async def enter(self, node: "ClusterBroker") -> None:
        if not self.nodes:
            await self._running.enter_async_context(self.memory.running(self))
        self.nodes.append(node)

    async def leave(self, node: "ClusterBroker") -> None:
        self.nodes.remove(node)
        if not self.nodes:
            await self._running.aclose()

    def deliver(self, channel: str, event: Event) -> None:
        for node in self.nodes:
            node.arrive(channel, event)

    def control(self, message: bytes) -> None:
        for node in self.nodes:
            node.arrive(None, message)

    def suspect(self, channels: object) -> None:
        raise AssertionError("memory loses nothing")


class ClusterBroker:
    """A node."""

    local = False
    alone = False
    outage = None

    def __init__(self, store: ClusterStore) -> None:
        self.store = store
        self.memory = store.memory
        self.channels = set[str]()
        self.receiver: Receiver | None = None
        self.arrived: deque[tuple[str, Event] | tuple[None, bytes]] = deque()

    @asynccontextmanager
    async def running(self, receiver: Receiver) -> AsyncGenerator[None]:
        self.receiver = receiver
        await self.store.enter(self)
        try:
            yield
        finally:
            await self.store.leave(self)
            self.receiver = None

    def arrive(self, channel: str | None, what: Event | bytes) -> None:
        if isinstance(what, bytes):
            self.arrived.append((None, what))
        elif channel is not None and self.wants(channel):
            self.arrived.append((channel, what))
        asyncio.get_running_loop().call_soon(self.hand_over)

    def wants(self, channel: str) -> bool:
        return channel in self.channels

    def hand_over(self) -> None:
        while self.arrived:
            item = self.arrived.popleft()
            if self.receiver is None:
                continue
            if item[0] is None:
                self.receiver.control(item[1])
            else:
                self.receiver.deliver(item[0], item[1])

    async def subscribe(self, channels: Collection[str]) -> None:
        await asyncio.sleep(0)
        self.channels.update(channels)
        await self.memory.subscribe(channels)

    async def unsubscribe(self, channels: Collection[str]) -> None:
        await asyncio.sleep(0)
        self.channels.difference_update(channels)

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
        await asyncio.sleep(0)
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
        await asyncio.sleep(0)
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
        await asyncio.sleep(0)
        return await self.memory.history(
            channel, since=since, limit=limit, reverse=reverse, meta_ttl=meta_ttl
        )

    async def remove_history(self, channel: str) -> None:
        await asyncio.sleep(0)
        await self.memory.remove_history(channel)

    async def add_presence(
        self, channel: str, client: str, info: ClientInfo, ttl: float | None
    ) -> None:
        await asyncio.sleep(0)
        await self.memory.add_presence(channel, client, info, ttl)

    async def remove_presence(self, channel: str, client: str) -> None:
        await asyncio.sleep(0)
        await self.memory.remove_presence(channel, client)

    async def presence(self, channel: str) -> Mapping[str, ClientInfo]:
        await asyncio.sleep(0)
        return await self.memory.presence(channel)

    async def presence_stats(self, channel: str) -> PresenceStats:
        await asyncio.sleep(0)
        return await self.memory.presence_stats(channel)

    async def send_control(self, message: bytes) -> None:
        await asyncio.sleep(0)
        await self.memory.send_control(message)
