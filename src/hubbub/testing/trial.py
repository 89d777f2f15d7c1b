"""What a check of a broker works with: nodes, time and names that nobody else uses."""

import asyncio
import secrets
import threading
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager

from hubbub.brokers.base import Broker, Event
from hubbub.clock import Clock, SystemClock
from hubbub.model import ClientInfo, Position, Publication
from hubbub.testing.clock import FakeClock

__all__ = [
    "ADA",
    "ANONYMOUS",
    "BOB",
    "LONG",
    "BrokerContractError",
    "BrokerNode",
    "BrokerTrial",
    "payloads",
]

ADA = ClientInfo("ada", "client-1", b'{"name":"Ada"}', b'{"role":"admin"}')
BOB = ClientInfo("bob", "client-2")
ANONYMOUS = ClientInfo("", "client-3")

# What checks do not wait for the end of; not more, for the sake of stores that outlive a test.
LONG = 1_200.0

# With a fake clock time is exact; else the machine may be slow, and the store count in steps.
FAKE_TTL, FAKE_EARLY, FAKE_LATE = 10.0, 0.9, 1.1
EARLY, LATE = 0.6, 1.3

MAX_REPR = 400


class BrokerContractError(AssertionError):
    """A broker does not do what it guarantees.

    Attributes:
        guarantee: The key of `BROKER_CHECKS`.
        problem: What was expected, and what was seen.
    """

    def __init__(self, guarantee: str, problem: str) -> None:
        super().__init__(f"{guarantee}: {problem}")
        self.guarantee = guarantee
        self.problem = problem


class BrokerTrial:
    """One check of a broker.

    Attributes:
        guarantee: The key of `BROKER_CHECKS`.
        clock: What moves the broker's time. `None`: time is real.
        ttl: Seconds to use as a TTL whose end the check waits for.
        early: Seconds after which such a TTL has certainly not ended.
        late: Seconds after which it has.
    """

    def __init__(
        self,
        guarantee: str,
        factory: Callable[[Clock], Broker],
        *,
        clock: FakeClock | None = None,
        timeout: float = 5.0,
        ttl: float = 1.0,
        quiet: float = 0.1,
    ) -> None:
        self.guarantee = guarantee
        self.clock = clock
        self.ttl = FAKE_TTL if clock else ttl
        self.early = self.ttl * (FAKE_EARLY if clock else EARLY)
        self.late = self.ttl * (FAKE_LATE if clock else LATE)
        self._factory = factory
        self._timeout = timeout
        self._quiet = quiet
        self._unique = secrets.token_hex(8)
        self._names = 0
        self._faults: list[str] = []

    def channel(self, around: str = "") -> str:
        """Return the name of a channel that nobody has used.

        Args:
            around: What it begins and ends with.
        """
        self._names += 1
        return f"{around}{self._unique}-{self._names}{around}"

    @asynccontextmanager
    async def nodes(self) -> AsyncGenerator[tuple["BrokerNode", "BrokerNode"]]:
        """Run two nodes of one cluster; of a broker that is alone, one, twice."""
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(self.node())
            if first.broker.alone:
                yield first, first
            else:
                yield first, await stack.enter_async_context(self.node())
        self.verify()

    @asynccontextmanager
    async def node(self, broker: Broker | None = None) -> AsyncGenerator["BrokerNode"]:
        """Run a node.

        Args:
            broker: One that ran before. `None`: a new one.
        """
        node = BrokerNode(self, broker or self._factory(self.clock or SystemClock()))
        async with node.broker.running(node):
            yield node
        node.left = True

    async def wait(self, seconds: float) -> None:
        """Let time pass."""
        if self.clock is None:
            await asyncio.sleep(seconds)
        else:
            self.clock.advance(seconds)

    async def settle(self, *nodes: "BrokerNode") -> None:
        """Give what should not happen the time to happen: what is on its way arrives."""
        # What is local has nothing on its way, but may have asked the loop for a call.
        await asyncio.sleep(0 if all(node.broker.local for node in nodes) else self._quiet)

    async def until(self, met: Callable[[], bool], changed: asyncio.Event) -> bool:
        """Wait until a condition is met, looking again after each change; say if it was."""
        try:
            async with asyncio.timeout(self._timeout):
                while not met():
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            return False
        return True

    def report(self, fault: str) -> None:
        """Have the check fail once it looks: this comes from within a call of the broker."""
        self._faults.append(fault)

    def verify(self) -> None:
        """Fail if anything was reported."""
        if self._faults:
            self.fail(self._faults[0])

    def expect(self, got: object, expected: object, what: str) -> None:
        """Fail unless two values are equal.

        Args:
            what: What the values are, and of what.
        """
        self.verify()
        if got != expected:
            self.fail(f"{what}: expected {_shown(expected)}, got {_shown(got)}")

    def fail(self, problem: str) -> None:
        """Fail.

        Raises:
            BrokerContractError: Always.
        """
        raise BrokerContractError(self.guarantee, problem)


class BrokerNode:
    """A node of a trial: a broker, and what it delivered.

    Attributes:
        events: What was delivered, by channel, in order.
        messages: The control messages that came.
        left: Whether `running` was left: nothing may be called any more.
        on_deliver: Called from within `deliver`.
    """

    def __init__(self, trial: BrokerTrial, broker: Broker) -> None:
        self.broker = broker
        self.events: dict[str, list[Event]] = {}
        self.messages: list[bytes] = []
        self.left = False
        self.on_deliver: Callable[[str, Event], object] | None = None
        self._trial = trial
        self._thread = threading.get_ident()
        self._inside = False
        self._changed = asyncio.Event()

    async def publish(
        self,
        channel: str,
        publication: Publication | bytes,
        *,
        size: int = 100,
        ttl: float = LONG,
        meta_ttl: float = LONG,
        key: str = "",
        version: int = 0,
        version_epoch: str = "",
    ) -> Position:
        """Publish with history, unless the size or the TTL is 0."""
        if isinstance(publication, bytes):
            publication = Publication(publication)
        return await self.broker.publish(
            channel,
            publication,
            history_size=size,
            history_ttl=ttl,
            meta_ttl=meta_ttl,
            idempotency_key=key,
            version=version,
            version_epoch=version_epoch,
        )

    async def publications(self, channel: str) -> list[Publication]:
        """Read all that the history of a channel holds."""
        history = await self.broker.history(channel, meta_ttl=LONG)
        return list(history.publications)

    async def position(self, channel: str) -> Position:
        """Read where the stream of a channel stands."""
        return (await self.broker.history(channel, limit=0, meta_ttl=LONG)).position

    async def delivered(self, channel: str, count: int) -> list[Event]:
        """Wait until so many events of a channel were delivered, and return them all."""
        events = self.events.setdefault(channel, [])
        if not await self._trial.until(lambda: len(events) >= count, self._changed):
            self._trial.verify()
            self._trial.fail(
                f"only {len(events)} of {count} events were delivered in time: {_shown(events)}"
            )
        return list(events)

    async def controlled(self, count: int) -> list[bytes]:
        """Wait until so many control messages came, and return them all."""
        messages = self.messages
        if not await self._trial.until(lambda: len(messages) >= count, self._changed):
            self._trial.verify()
            self._trial.fail(f"only {len(messages)} of {count} control messages came in time")
        return list(messages)

    def deliver(self, channel: str, event: Event) -> None:
        """Take an event (`Receiver.deliver`)."""
        if self._begin("deliver"):
            self.events.setdefault(channel, []).append(event)
            try:
                if self.on_deliver is not None:
                    self.on_deliver(channel, event)
            finally:
                self._end()

    def control(self, message: bytes) -> None:
        """Take a control message (`Receiver.control`)."""
        if self._begin("control"):
            self.messages.append(message)
            self._end()

    def suspect(self, channels: Collection[str] | None) -> None:
        """Learn that something may have been missed (`Receiver.suspect`)."""
        if self._begin("suspect"):
            self._end()

    def _begin(self, method: str) -> bool:
        """Whether the call is one that a broker may make."""
        if threading.get_ident() != self._thread:
            self._trial.report(f"{method} was called in another thread than the event loop's")
            return False
        if self.left:
            self._trial.report(f"{method} was called after `running` was left")
        if self._inside:
            self._trial.report(f"{method} was called within another call of the receiver")
        self._inside = True
        return True

    def _end(self) -> None:
        self._inside = False
        self._changed.set()


def payloads(events: Collection[Event]) -> list[bytes]:
    """Return what the publications among some events carry."""
    return [event.data for event in events if isinstance(event, Publication)]


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= MAX_REPR else f"{shown[:MAX_REPR]}… ({len(shown)} characters)"
