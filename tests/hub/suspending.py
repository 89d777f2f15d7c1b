"""A broker of several nodes, of which a test holds back, reorders, fails or loses each step.

A call is two steps: the request reaches the store, the answer comes back. A delivery is one; those
in one channel to one node keep their order, and may lag behind all calls. Steps that nobody holds
back are taken soon, in order.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any, Literal

from hubbub.brokers.base import Event, Receiver
from hubbub.brokers.memory import MemoryBroker
from hubbub.clock import Clock
from hubbub.model import ClientInfo, History, Join, Leave, Position, PresenceStats, Publication

__all__ = ["Hold", "Record", "RecordingBroker", "Step", "SuspendingBroker", "SuspendingStore"]

When = Literal["request", "answer", "delivery"]


class Record:
    """What was ever published.

    Attributes:
        record: By channel and epoch, in order of offsets, from 1.
        epochs: By channel, the one that was published in last.
    """

    def __init__(self) -> None:
        self.record: defaultdict[tuple[str, str], list[Publication]] = defaultdict(list)
        self.epochs: dict[str, str] = {}

    def note(self, channel: str, publication: Publication, position: Position) -> None:
        if position.offset:
            record = self.record[channel, position.epoch]
            if position.offset > len(record):  # else one with the same key or version was first
                record.append(publication)
            assert position.offset <= len(record)
            self.epochs[channel] = position.epoch


class RecordingBroker(MemoryBroker, Record):
    """The broker in memory, and all that was ever published to it.

    Attributes:
        channels: That the node is subscribed to.
    """

    def __init__(self, *, clock: Clock, random: Random | None = None) -> None:
        MemoryBroker.__init__(self, clock=clock, random=random)
        Record.__init__(self)
        self.channels = set[str]()

    async def subscribe(self, channels: Collection[str]) -> None:
        self.channels.update(channels)
        await super().subscribe(channels)

    async def unsubscribe(self, channels: Collection[str]) -> None:
        self.channels.difference_update(channels)
        await super().unsubscribe(channels)

    async def publish(self, channel: str, publication: Publication, **options: Any) -> Position:
        position = await super().publish(channel, publication, **options)
        self.note(channel, publication, position)
        return position


class Step:
    """What waits to happen.

    Attributes:
        name: The method of the broker; `deliver` or `control` for what the node is to be given.
        channel: What it is about; empty if that is no channel.
    """

    def __init__(
        self, node: "SuspendingBroker", name: str, channel: str, when: When, take: Callable[[], Any]
    ) -> None:
        self.node = node
        self.name = name
        self.channel = channel
        self.when = when
        self.failure: Exception | None = None
        self._take: Callable[[], Any] | None = take

    def __repr__(self) -> str:
        return f"<{self.name} {self.channel} {self.when}>"

    def go(self) -> None:
        """Let it happen; nothing if it has, or has been dropped."""
        take = self._take
        self.drop()
        if take is not None:
            take()

    def fail(self, failure: Exception) -> None:
        """Let the call fail here."""
        self.failure = failure
        self.go()

    def drop(self) -> None:
        """Forget it."""
        self._take = None
        if self in self.node.store.pending:
            self.node.store.pending.remove(self)


class Hold:
    """Holds back the steps that match, from now on.

    Attributes:
        steps: Those that came, in order, released ones included.
    """

    def __init__(self, store: "SuspendingStore", matches: Callable[[Step], bool]) -> None:
        self.steps: list[Step] = []
        self._store = store
        self._matches = matches
        self._came = asyncio.Event()
        store.holds.append(self)

    def takes(self, step: Step) -> bool:
        """Whether it holds back a step."""
        if not self._matches(step):
            return False
        self.steps.append(step)
        self._came.set()
        return True

    async def reached(self, count: int = 1) -> Step:
        """Wait until so many steps have come; return the last of these."""
        async with asyncio.timeout(5):
            while len(self.steps) < count:
                self._came.clear()
                await self._came.wait()
        return self.steps[count - 1]

    def release(self) -> None:
        """Hold nothing back any more, and let what came happen."""
        if self in self._store.holds:
            self._store.holds.remove(self)
        for step in list(self.steps):
            step.go()


class SuspendingStore:
    """What the nodes share.

    Attributes:
        pending: Steps that are held back.
        holds: By whom, the first that matches.
        late: Whether what is on its way still arrives after `unsubscribe`.
    """

    def __init__(self, clock: Clock, random: Random | None = None) -> None:
        self.memory = RecordingBroker(clock=clock, random=random)
        self.nodes: list[SuspendingBroker] = []
        self.pending: list[Step] = []
        self.holds: list[Hold] = []
        self.late = True
        self._running = AsyncExitStack()

    def node(self) -> "SuspendingBroker":
        """Make a node."""
        return SuspendingBroker(self)

    def hold(
        self, name: str = "", when: When | None = None, channel: str = "", *, calls: int = 0
    ) -> Hold:
        """Hold steps back.

        Args:
            name: Of the method; empty: of all.
            calls: How many at most; 0: all.
        """
        held: list[Step] = []

        def matches(step: Step) -> bool:
            if (
                name not in ("", step.name)
                or when not in (None, step.when)
                or channel not in ("", step.channel)
                or (calls and len(held) >= calls)
            ):
                return False
            held.append(step)
            return True

        return Hold(self, matches)

    def offer(self, step: Step) -> None:
        """Let a step happen soon, unless it is held back."""
        for hold in self.holds:
            if hold.takes(step):
                self.pending.append(step)
                return
        asyncio.get_running_loop().call_soon(step.go)

    async def enter(self, node: "SuspendingBroker") -> None:
        if not self.nodes:
            await self._running.enter_async_context(self.memory.running(self))
        self.nodes.append(node)

    async def leave(self, node: "SuspendingBroker") -> None:
        self.nodes.remove(node)
        if not self.nodes:
            await self._running.aclose()

    def deliver(self, channel: str, event: Event) -> None:
        for node in self.nodes:
            if channel in node.channels:
                node.send(channel, event)

    def control(self, message: bytes) -> None:
        for node in self.nodes:
            node.send(None, message)

    def suspect(self, channels: object) -> None:
        raise AssertionError("memory loses nothing")


class SuspendingBroker:
    """A node.

    Attributes:
        channels: That the store delivers to it.
        calls: Names of the methods that were called, with their channels.
    """

    local = False
    alone = False
    outage = None

    def __init__(self, store: SuspendingStore) -> None:
        self.store = store
        self.channels = set[str]()
        self.calls: list[tuple[str, str]] = []
        self._receiver: Receiver | None = None
        self._sent: dict[str | None, deque[Event | bytes]] = {}
        self._steps: dict[str | None, Step] = {}

    @asynccontextmanager
    async def running(self, receiver: Receiver) -> AsyncGenerator[None]:
        await self.store.enter(self)
        self._receiver = receiver
        try:
            yield
        finally:
            self._receiver = None
            self.channels.clear()
            for channel in list(self._sent):
                self.lose(channel)
            await self.store.leave(self)

    # Deliveries.

    def send(self, channel: str | None, what: Event | bytes) -> None:
        """Put on its way what the node is to be given."""
        self._sent.setdefault(channel, deque()).append(what)
        if channel not in self._steps:
            self._offer_first(channel)

    def lose(self, channel: str | None) -> int:
        """Drop what is on its way in a channel; return how much. `suspect` is to follow."""
        step = self._steps.pop(channel, None)
        if step is not None:
            step.drop()
        return len(self._sent.pop(channel, ()))

    def suspect(self, channels: Collection[str] | None) -> None:
        """Tell the node that something may have been lost."""
        assert self._receiver is not None
        self._receiver.suspect(channels)

    def _offer_first(self, channel: str | None) -> None:
        name = "control" if channel is None else "deliver"
        step = self._steps[channel] = Step(
            self, name, channel or "", "delivery", lambda: self._hand_over(channel)
        )
        self.store.offer(step)

    def _hand_over(self, channel: str | None) -> None:
        sent, receiver = self._sent[channel], self._receiver
        del self._steps[channel]
        what = sent.popleft()
        if sent:
            self._offer_first(channel)
        else:
            del self._sent[channel]
        assert receiver is not None
        if isinstance(what, bytes):
            receiver.control(what)
        elif channel is not None:
            receiver.deliver(channel, what)

    # Calls.

    async def _step(self, name: str, channel: str, when: When) -> None:
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def take() -> None:
            if gone.done():
                return
            if step.failure is not None:
                gone.set_exception(step.failure)
            else:
                gone.set_result(None)

        step = Step(self, name, channel, when, take)
        self.store.offer(step)
        try:
            await gone
        finally:
            step.drop()

    async def _request(self, name: str, channel: str = "") -> None:
        self.calls.append((name, channel))
        await self._step(name, channel, "request")

    async def subscribe(self, channels: Collection[str]) -> None:
        first = next(iter(channels), "")
        await self._request("subscribe", first)
        self.channels.update(channels)
        await self.store.memory.subscribe(channels)
        await self._step("subscribe", first, "answer")

    async def unsubscribe(self, channels: Collection[str]) -> None:
        first = next(iter(channels), "")
        await self._request("unsubscribe", first)
        self.channels.difference_update(channels)
        if not self.store.late:
            for channel in channels:
                self.lose(channel)
        await self._step("unsubscribe", first, "answer")

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
        await self._request("publish", channel)
        position = await self.store.memory.publish(
            channel,
            publication,
            history_size=history_size,
            history_ttl=history_ttl,
            meta_ttl=meta_ttl,
            idempotency_key=idempotency_key,
            version=version,
            version_epoch=version_epoch,
        )
        await self._step("publish", channel, "answer")
        return position

    async def announce(self, channel: str, event: Join | Leave) -> None:
        name = f"announce {type(event).__name__.lower()}"
        await self._request(name, channel)
        await self.store.memory.announce(channel, event)
        await self._step(name, channel, "answer")

    async def history(
        self,
        channel: str,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
        meta_ttl: float = 2_592_000.0,
    ) -> History:
        await self._request("history", channel)
        page = await self.store.memory.history(
            channel, since=since, limit=limit, reverse=reverse, meta_ttl=meta_ttl
        )
        await self._step("history", channel, "answer")
        return page

    async def remove_history(self, channel: str) -> None:
        await self._request("remove_history", channel)
        await self.store.memory.remove_history(channel)
        await self._step("remove_history", channel, "answer")

    async def add_presence(
        self, channel: str, client: str, info: ClientInfo, ttl: float | None
    ) -> None:
        await self._request("add_presence", channel)
        await self.store.memory.add_presence(channel, client, info, ttl)
        await self._step("add_presence", channel, "answer")

    async def remove_presence(self, channel: str, client: str) -> None:
        await self._request("remove_presence", channel)
        await self.store.memory.remove_presence(channel, client)
        await self._step("remove_presence", channel, "answer")

    async def presence(self, channel: str) -> Mapping[str, ClientInfo]:
        await self._request("presence", channel)
        members = await self.store.memory.presence(channel)
        await self._step("presence", channel, "answer")
        return members

    async def presence_stats(self, channel: str) -> PresenceStats:
        await self._request("presence_stats", channel)
        stats = await self.store.memory.presence_stats(channel)
        await self._step("presence_stats", channel, "answer")
        return stats

    async def send_control(self, message: bytes) -> None:
        await self._request("send_control")
        await self.store.memory.send_control(message)
        await self._step("send_control", "", "answer")
