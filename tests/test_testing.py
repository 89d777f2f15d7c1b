"""The contract finds what is wrong with a broker, and the fake clock keeps time."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from hubbub.brokers.base import Broker, Event, Receiver
from hubbub.brokers.memory import MemoryBroker
from hubbub.clock import Clock
from hubbub.model import ClientInfo, History, Join, Leave, Position, PresenceStats, Publication
from hubbub.testing import BROKER_CHECKS, BrokerContractError, FakeClock, check_broker
from tests.contract.cluster import ClusterBroker, ClusterStore
from tests.docs.markdown import rows
from tests.programs import ROOT
from tests.timing import MS

REFERENCE = ROOT / "docs" / "reference" / "testing.md"

QUIET = 5 * MS
TIMEOUT = 2_000 * MS

# For faults that show by nothing happening.
SHORT_TIMEOUT = 100 * MS


# The contract, for brokers that do what they should


@pytest.mark.parametrize("guarantee", BROKER_CHECKS)
async def test_cluster_of_nodes_passes(guarantee: str) -> None:
    clock = FakeClock()
    store = ClusterStore(clock)
    await check_broker(
        lambda _: ClusterBroker(store),
        clock=clock,
        checks=[guarantee],
        timeout=TIMEOUT,
        quiet=QUIET,
    )


@pytest.mark.parametrize("guarantee", ["history-ttl", "meta-ttl", "presence-ttl"])
async def test_broker_passes_in_real_time(guarantee: str) -> None:
    def factory(clock: Clock) -> Broker:
        return MemoryBroker(clock=clock)

    await check_broker(factory, checks=[guarantee], timeout=TIMEOUT, ttl=400 * MS)


async def test_check_broker_gives_the_factory_its_clock_and_runs_all_checks() -> None:
    made: list[Clock] = []

    def factory(clock: Clock) -> Broker:
        made.append(clock)
        return MemoryBroker(clock=clock)

    clock = FakeClock()
    await check_broker(factory, clock=clock)

    assert len(made) >= len(BROKER_CHECKS)
    assert set(map(id, made)) == {id(clock)}


async def test_check_broker_refuses_unknown_names() -> None:
    with pytest.raises(KeyError, match="no-such-check"):
        await check_broker(lambda clock: MemoryBroker(clock=clock), checks=["no-such-check"])


def test_every_check_is_in_the_reference_with_what_it_checks() -> None:
    assert rows(REFERENCE, "check") == [
        [f"`{name}`", (check.__doc__ or "").removesuffix(".")]
        for name, check in BROKER_CHECKS.items()
    ]


# Brokers with a fault each


class LocalBroker(MemoryBroker):
    """In one process; the faults of those that suspend are of `ClusterBroker`."""

    def __init__(self, store: ClusterStore) -> None:
        super().__init__(clock=store.clock)


class LosesOne(ClusterBroker):
    count = 0

    def arrive(self, channel: str | None, what: Event | bytes) -> None:
        self.count += 1
        if self.count != 3:
            super().arrive(channel, what)


class DeliversTwice(ClusterBroker):
    def arrive(self, channel: str | None, what: Event | bytes) -> None:
        super().arrive(channel, what)
        if isinstance(what, Publication) and what.data == b"19":  # the last one
            super().arrive(channel, what)


class Reorders(ClusterBroker):
    def hand_over(self) -> None:
        self.arrived.reverse()
        super().hand_over()


class DeliversWithoutPosition(ClusterBroker):
    def arrive(self, channel: str | None, what: Event | bytes) -> None:
        if isinstance(what, Publication):
            what = replace(what, offset=0, epoch="")
        super().arrive(channel, what)


class DeliversInAnotherThread(ClusterBroker):
    def hand_over(self) -> None:
        thread = threading.Thread(target=super().hand_over)
        thread.start()
        thread.join()


class Tampers(ClusterBroker):
    """Publishes something else than it was given."""

    async def publish(self, channel: str, publication: Publication, **options: Any) -> Position:
        publication = self.publication(publication)
        return await super().publish(channel, publication, **self.options(channel, options))

    def publication(self, publication: Publication) -> Publication:
        return publication

    def options(self, channel: str, options: dict[str, Any]) -> dict[str, Any]:
        return options


class KeepsAnyway(Tampers):
    def options(self, channel: str, options: dict[str, Any]) -> dict[str, Any]:
        return options | {"history_size": options["history_size"] or 1}


class OffsetsFromZero(ClusterBroker):
    async def publish(self, *args: Any, **options: Any) -> Position:
        position = await super().publish(*args, **options)
        return Position(position.epoch, max(0, position.offset - 1))


class OffsetsOfTheTop(ClusterBroker):
    """Publishes, and then looks where the stream stands: two steps."""

    async def publish(self, channel: str, *args: Any, **options: Any) -> Position:
        position = await super().publish(channel, *args, **options)
        if not position.offset:
            return position
        await asyncio.sleep(0)
        return (await self.history(channel, limit=0)).position


class ReadsItsOwn(ClusterBroker):
    """Reads nothing of what others published."""

    def __init__(self, store: ClusterStore) -> None:
        super().__init__(store)
        self.published = set[Position]()

    async def publish(self, channel: str, publication: Publication, **options: Any) -> Position:
        position = await super().publish(channel, publication, **options)
        self.published.add(position)
        return position

    async def history(self, channel: str, **options: Any) -> History:
        history = await super().history(channel, **options)
        kept = [item for item in history.publications if item.position in self.published]
        return History(tuple(kept), history.position)


class DropsTags(Tampers):
    def publication(self, publication: Publication) -> Publication:
        return replace(publication, tags={})


class DropsTime(Tampers):
    def publication(self, publication: Publication) -> Publication:
        return replace(publication, time=0)


class Truncates(Tampers):
    def publication(self, publication: Publication) -> Publication:
        return replace(publication, data=publication.data[:65_536])


class StripsNames(ClusterBroker):
    async def publish(self, channel: str, *args: Any, **options: Any) -> Position:
        return await super().publish(channel.strip(), *args, **options)

    async def history(self, channel: str, **options: Any) -> History:
        return await super().history(channel.strip(), **options)


class SubscribesLater(ClusterBroker):
    async def subscribe(self, channels: Collection[str]) -> None:
        task = asyncio.create_task(super().subscribe(channels))
        task.add_done_callback(lambda task: task.result())


class SubscribesTwice(ClusterBroker):
    """Delivers twice what was subscribed to twice."""

    def __init__(self, store: ClusterStore) -> None:
        super().__init__(store)
        self.subscriptions: list[str] = []

    async def subscribe(self, channels: Collection[str]) -> None:
        self.subscriptions += channels
        await super().subscribe(channels)

    def arrive(self, channel: str | None, what: Event | bytes) -> None:
        for _ in range(max(1, self.subscriptions.count(channel or ""))):
            super().arrive(channel, what)


class NeverUnsubscribes(ClusterBroker):
    async def unsubscribe(self, channels: Collection[str]) -> None:
        await asyncio.sleep(0)


class UnsubscribesAll(ClusterBroker):
    async def unsubscribe(self, channels: Collection[str]) -> None:
        self.channels.clear()


class MatchesPrefixes(ClusterBroker):
    async def subscribe(self, channels: Collection[str]) -> None:
        await super().subscribe(channels)
        await self.memory.subscribe([f"{channel}x" for channel in channels])

    def wants(self, channel: str) -> bool:
        return any(channel.startswith(name) for name in self.channels)


class NoEpochAtFirst(ClusterBroker):
    async def history(self, channel: str, **options: Any) -> History:
        history = await super().history(channel, **options)
        return history if history.position.offset else History((), Position())


class IgnoresLimitInReverse(ClusterBroker):
    async def history(self, channel: str, **options: Any) -> History:
        if options.get("reverse"):
            options["limit"] = None
        return await super().history(channel, **options)


class IgnoresReverse(ClusterBroker):
    async def history(self, channel: str, **options: Any) -> History:
        return await super().history(channel, **options | {"reverse": False})


class IncludesSince(ClusterBroker):
    async def history(
        self, channel: str, *, since: Position | None = None, **options: Any
    ) -> History:
        if since is not None and not options.get("reverse"):
            since = replace(since, offset=since.offset - 1)
        return await super().history(channel, since=since, **options)


class IgnoresForeignEpochs(ClusterBroker):
    async def history(
        self, channel: str, *, since: Position | None = None, **options: Any
    ) -> History:
        if since is not None:
            since = replace(since, epoch="")
        return await super().history(channel, since=since, **options)


class TrimsNoMoreThanBefore(Tampers):
    def __init__(self, store: ClusterStore) -> None:
        super().__init__(store)
        self.sizes: dict[str, int] = {}

    def options(self, channel: str, options: dict[str, Any]) -> dict[str, Any]:
        size = options["history_size"]
        if size:
            size = self.sizes[channel] = max(size, self.sizes.get(channel, 0))
        return options | {"history_size": size}


class HistoryTtlTwice(Tampers):
    def options(self, channel: str, options: dict[str, Any]) -> dict[str, Any]:
        return options | {"history_ttl": options["history_ttl"] * 2}


class HistoryTtlHalf(Tampers):
    def options(self, channel: str, options: dict[str, Any]) -> dict[str, Any]:
        return options | {"history_ttl": options["history_ttl"] / 2}


class MetaForEver(ClusterBroker):
    async def history(self, channel: str, **options: Any) -> History:
        return await super().history(channel, **options | {"meta_ttl": 1e6})


class MetaTtlHalf(Tampers):
    def options(self, channel: str, options: dict[str, Any]) -> dict[str, Any]:
        return options | {"meta_ttl": options["meta_ttl"] / 2}


class RemovesNothing(ClusterBroker):
    async def remove_history(self, channel: str) -> None:
        await asyncio.sleep(0)


class RemovesTheStream(ClusterBroker):
    async def remove_history(self, channel: str) -> None:
        await super().history(channel, meta_ttl=0.0)


class ForgetsKeys(Tampers):
    def options(self, channel: str, options: dict[str, Any]) -> dict[str, Any]:
        return options | {"idempotency_key": ""}


class ForgetsKeysOfOthers(Tampers):
    def options(self, channel: str, options: dict[str, Any]) -> dict[str, Any]:
        key = options["idempotency_key"]
        return options | {"idempotency_key": key and f"{key}-{id(self)}"}


class KeysOfAllChannels(ClusterBroker):
    def __init__(self, store: ClusterStore) -> None:
        super().__init__(store)
        self.positions: dict[str, Position] = {}

    async def publish(
        self, channel: str, publication: Publication, *, idempotency_key: str = "", **options: Any
    ) -> Position:
        if idempotency_key in self.positions:
            return self.positions[idempotency_key]
        position = await super().publish(
            channel, publication, idempotency_key=idempotency_key, **options
        )
        if idempotency_key:
            self.positions[idempotency_key] = position
        return position


class DeliversAgain(ClusterBroker):
    """Knows keys, but delivers all the same."""

    async def publish(
        self, channel: str, publication: Publication, *, idempotency_key: str = "", **options: Any
    ) -> Position:
        position = await super().publish(
            channel, publication, idempotency_key=idempotency_key, **options
        )
        if publication.data == b"no":
            await super().publish(channel, publication)
        return position


class KeysWithHistoryOnly(Tampers):
    def options(self, channel: str, options: dict[str, Any]) -> dict[str, Any]:
        return options if options["history_size"] else options | {"idempotency_key": ""}


class LooksThenPublishes(ClusterBroker):
    """Knows keys for ever, but looks first and publishes then: two steps."""

    def __init__(self, store: ClusterStore) -> None:
        super().__init__(store)
        self.positions: dict[tuple[str, str], Position] = {}

    async def publish(
        self, channel: str, publication: Publication, *, idempotency_key: str = "", **options: Any
    ) -> Position:
        found = self.positions.get((channel, idempotency_key))
        if found is not None and idempotency_key:
            return found
        position = await super().publish(channel, publication, **options)
        self.positions[channel, idempotency_key] = position
        return position


class IgnoresVersions(Tampers):
    def options(self, channel: str, options: dict[str, Any]) -> dict[str, Any]:
        return options | {"version": 0}


class DropsWithoutHistory(ClusterBroker):
    async def publish(self, channel: str, publication: Publication, **options: Any) -> Position:
        if options["version"] and not options["history_size"]:
            return Position()
        return await super().publish(channel, publication, **options)


class IgnoresVersionEpochs(Tampers):
    def options(self, channel: str, options: dict[str, Any]) -> dict[str, Any]:
        return options | {"version_epoch": ""}


class PresenceOnce(ClusterBroker):
    """The first entry of a client stays."""

    async def add_presence(
        self, channel: str, client: str, info: ClientInfo, ttl: float | None
    ) -> None:
        if client not in await self.presence(channel):
            await super().add_presence(channel, client, info, ttl)


class PresenceAlive(LocalBroker):
    """Returns no snapshot, but what it has."""

    def __init__(self, store: ClusterStore) -> None:
        super().__init__(store)
        self.present: dict[str, dict[str, ClientInfo]] = {}

    async def add_presence(
        self, channel: str, client: str, info: ClientInfo, ttl: float | None
    ) -> None:
        self.present.setdefault(channel, {})[client] = info

    async def remove_presence(self, channel: str, client: str) -> None:
        self.present[channel].pop(client, None)

    async def presence(self, channel: str) -> Mapping[str, ClientInfo]:
        return self.present.setdefault(channel, {})


class PresenceForEver(ClusterBroker):
    async def add_presence(
        self, channel: str, client: str, info: ClientInfo, ttl: float | None
    ) -> None:
        await super().add_presence(channel, client, info, None)


class PresenceForATimeOnly(ClusterBroker):
    async def add_presence(
        self, channel: str, client: str, info: ClientInfo, ttl: float | None
    ) -> None:
        await super().add_presence(channel, client, info, 10.0 if ttl is None else ttl)


class CountsEveryAnonymous(ClusterBroker):
    async def presence_stats(self, channel: str) -> PresenceStats:
        present = await self.presence(channel)
        users = {info.user or info.client for info in present.values()}
        return PresenceStats(len(present), len(users))


class AnnouncesToItself(ClusterBroker):
    async def announce(self, channel: str, event: Join | Leave) -> None:
        await asyncio.sleep(0)
        self.arrive(channel, event)


class AnnouncesJoinsOnly(ClusterBroker):
    async def announce(self, channel: str, event: Join | Leave) -> None:
        if isinstance(event, Join):
            await super().announce(channel, event)


class ControlsOthersOnly(ClusterBroker):
    async def send_control(self, message: bytes) -> None:
        await asyncio.sleep(0)
        for node in self.store.nodes:
            if node is not self:
                node.arrive(None, message)


class ControlsTwice(ClusterBroker):
    async def send_control(self, message: bytes) -> None:
        await super().send_control(message)
        asyncio.get_running_loop().call_later(QUIET / 10, self.arrive, None, message)


class CallsAfterwards(ClusterBroker):
    @asynccontextmanager
    async def running(self, receiver: Receiver) -> AsyncGenerator[None]:
        async with super().running(receiver):
            yield
        asyncio.get_running_loop().call_soon(receiver.control, b"too late")


class KeepsSubscriptions(LocalBroker):
    @asynccontextmanager
    async def running(self, receiver: Receiver) -> AsyncGenerator[None]:
        async with super().running(receiver):
            await super().subscribe(self.before)
            yield

    def __init__(self, store: ClusterStore) -> None:
        super().__init__(store)
        self.before: list[str] = []

    async def subscribe(self, channels: Collection[str]) -> None:
        self.before += channels
        await super().subscribe(channels)


class SuspendsThoughLocal(LocalBroker):
    async def presence_stats(self, channel: str) -> PresenceStats:
        await asyncio.sleep(0)
        return await super().presence_stats(channel)


class DeliversWithin(LocalBroker):
    """Calls the receiver within its own call."""

    def __init__(self, store: ClusterStore) -> None:
        super().__init__(store)
        self.receiver: Receiver | None = None
        self.channels = set[str]()

    @asynccontextmanager
    async def running(self, receiver: Receiver) -> AsyncGenerator[None]:
        async with super().running(receiver):
            self.receiver = receiver
            yield

    async def subscribe(self, channels: Collection[str]) -> None:
        self.channels.update(channels)

    async def publish(self, channel: str, publication: Publication, **options: Any) -> Position:
        position = await super().publish(channel, publication, **options)
        if channel in self.channels and self.receiver is not None:
            offset, epoch = position.offset, position.epoch
            self.receiver.deliver(channel, replace(publication, offset=offset, epoch=epoch))
        return position


class Hangs(ClusterBroker):
    async def publish(self, *args: Any, **options: Any) -> Position:
        await asyncio.Event().wait()
        raise AssertionError("unreachable: nobody sets it")


FAULTS: list[tuple[type[ClusterBroker | LocalBroker], str]] = [
    (OffsetsFromZero, "offsets"),
    (Hangs, "offsets"),
    (LosesOne, "delivery"),
    (DeliversTwice, "delivery"),
    (Reorders, "concurrent"),
    (DeliversWithoutPosition, "delivery"),
    (DeliversInAnotherThread, "delivery"),
    (KeepsAnyway, "without-history"),
    (OffsetsOfTheTop, "concurrent"),
    (ReadsItsOwn, "one-stream"),
    (DropsTags, "fields"),
    (DropsTime, "fields"),
    (Truncates, "large-payload"),
    (StripsNames, "channel-names"),
    (SubscribesLater, "subscribe"),
    (SubscribesTwice, "subscribe"),
    (NeverUnsubscribes, "unsubscribe"),
    (UnsubscribesAll, "unsubscribe"),
    (MatchesPrefixes, "other-channels"),
    (NoEpochAtFirst, "first-read"),
    (IgnoresLimitInReverse, "pages"),
    (IgnoresReverse, "pages"),
    (IncludesSince, "pages"),
    (IgnoresForeignEpochs, "foreign-epoch"),
    (TrimsNoMoreThanBefore, "history-size"),
    (HistoryTtlTwice, "history-ttl"),
    (HistoryTtlHalf, "history-ttl"),
    (MetaForEver, "meta-ttl"),
    (MetaTtlHalf, "meta-ttl"),
    (RemovesNothing, "remove-history"),
    (RemovesTheStream, "remove-history"),
    (ForgetsKeys, "idempotency"),
    (ForgetsKeysOfOthers, "idempotency"),
    (KeysOfAllChannels, "idempotency"),
    (DeliversAgain, "idempotency"),
    (KeysWithHistoryOnly, "idempotency-without-history"),
    (LooksThenPublishes, "idempotency-concurrent"),
    (LooksThenPublishes, "idempotency-ttl"),
    (IgnoresVersions, "versions"),
    (DropsWithoutHistory, "versions"),
    (IgnoresVersionEpochs, "version-epochs"),
    (PresenceOnce, "presence"),
    (PresenceAlive, "presence"),
    (PresenceForEver, "presence-ttl"),
    (PresenceForATimeOnly, "presence-ttl"),
    (CountsEveryAnonymous, "presence-stats"),
    (AnnouncesToItself, "announce"),
    (AnnouncesJoinsOnly, "announce"),
    (ControlsOthersOnly, "control"),
    (ControlsTwice, "control"),
    (CallsAfterwards, "leaving"),
    (KeepsSubscriptions, "leaving"),
    (SuspendsThoughLocal, "local"),
    (DeliversWithin, "local"),
]


def test_every_check_has_a_fault_that_it_finds() -> None:
    assert {guarantee for _, guarantee in FAULTS} == set(BROKER_CHECKS)


@pytest.mark.parametrize(("broker", "guarantee"), FAULTS)
async def test_fault_is_reported_with_the_name_of_the_guarantee(
    broker: type[ClusterBroker | LocalBroker], guarantee: str
) -> None:
    clock = FakeClock()
    store = ClusterStore(clock)
    with pytest.raises(BrokerContractError) as raised:
        await check_broker(
            lambda _: broker(store),
            clock=clock,
            checks=[guarantee],
            timeout=SHORT_TIMEOUT,
            quiet=QUIET,
        )

    assert raised.value.guarantee == guarantee
    assert str(raised.value) == f"{guarantee}: {raised.value.problem}"


@pytest.mark.parametrize(
    ("broker", "problem"),
    [
        (DeliversWithin, "deliver was called within another call of the receiver"),
        (DeliversInAnotherThread, "deliver was called in another thread than the event loop's"),
        (CallsAfterwards, "control was called after `running` was left"),
        (LosesOne, "only 19 of 20 events were delivered in time"),
        (Hangs, "not done in"),
    ],
)
async def test_report_says_what_happened(
    broker: type[ClusterBroker | LocalBroker], problem: str
) -> None:
    clock = FakeClock()
    store = ClusterStore(clock)
    with pytest.raises(BrokerContractError, match=problem):
        await check_broker(
            lambda _: broker(store),
            clock=clock,
            checks=[guarantee for fault, guarantee in FAULTS if fault is broker],
            timeout=SHORT_TIMEOUT,
            quiet=QUIET,
        )


async def test_error_of_the_broker_is_raised_with_the_name_of_the_check() -> None:
    class Fails(MemoryBroker):
        async def remove_history(self, channel: str) -> None:
            raise RuntimeError("a bug in the broker")

    with pytest.raises(RuntimeError, match="a bug in the broker") as raised:
        await check_broker(lambda clock: Fails(clock=clock), clock=FakeClock())

    assert raised.value.__notes__ == ["checking the broker: remove-history"]


# The clock


def test_fake_clock_stands_still_until_it_is_advanced() -> None:
    clock = FakeClock(monotonic=5.0, time=100.0)
    before = (clock.monotonic(), clock.time())
    clock.advance(2.5)

    assert before == (5.0, 100.0)
    assert (clock.monotonic(), clock.time()) == (7.5, 102.5)


def test_fake_clock_calls_in_order_of_time_and_then_of_asking() -> None:
    clock = FakeClock(monotonic=0.0)
    calls: list[tuple[str, float]] = []

    def call(name: str) -> None:
        calls.append((name, clock.monotonic()))

    for name, delay in [("c", 2.0), ("a", 1.0), ("d", 2.0), ("b", 1.0), ("e", 3.0), ("now", -1.0)]:
        clock.call_later(delay, partial(call, name))
    asked_only = list(calls)
    clock.advance(2.5)

    assert asked_only == []
    assert calls == [("now", 0.0), ("a", 1.0), ("b", 1.0), ("c", 2.0), ("d", 2.0)]
    assert clock.monotonic() == 2.5


def test_fake_clock_calls_what_is_asked_for_meanwhile() -> None:
    def tick() -> None:
        ticks.append(clock.monotonic())
        clock.call_later(1.0, tick)

    clock = FakeClock(monotonic=0.0)
    ticks: list[float] = []
    clock.call_later(1.0, tick)
    clock.call_later(1.5, lambda: clock.call_later(0.0, lambda: ticks.append(-1.0)))
    clock.advance(3.0)

    assert ticks == [1.0, -1.0, 2.0, 3.0]


def test_fake_clock_does_not_call_what_was_cancelled() -> None:
    clock = FakeClock()
    calls: list[str] = []
    clock.call_later(1.0, lambda: third.cancel())
    second = clock.call_later(1.0, lambda: calls.append("second"))
    third = clock.call_later(1.0, lambda: calls.append("third"))
    clock.advance(1.0)
    second.cancel()  # it is over: nothing happens
    clock.advance(10.0)

    assert calls == ["second"]


def test_fake_clock_adds_small_steps_up_exactly() -> None:
    clock = FakeClock()
    calls: list[float] = []
    clock.call_later(1.0, lambda: calls.append(clock.monotonic()))
    for _ in range(10):
        clock.advance(0.1)

    assert calls == [1_001.0]


def test_fake_clock_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="time does not go back"):
        FakeClock().advance(-0.1)


def test_fake_clock_stops_at_a_call_that_raises_and_goes_on() -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    clock = FakeClock(monotonic=0.0)
    calls: list[float] = []
    clock.call_later(1.0, fail)
    clock.call_later(2.0, lambda: calls.append(clock.monotonic()))
    with pytest.raises(RuntimeError, match="a bug"):
        clock.advance(5.0)
    stopped = clock.monotonic()
    clock.advance(5.0)

    assert stopped == 1.0
    assert calls == [2.0]
    assert clock.monotonic() == 6.0
