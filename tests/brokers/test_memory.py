"""The broker in memory, beyond what every broker guarantees."""

import gc
import string
import sys
import tracemalloc
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar
from weakref import WeakSet

import pytest

from hubbub.brokers.base import Broker
from hubbub.brokers.memory import MemoryBroker
from hubbub.clock import Timer
from hubbub.errors import BrokerError
from hubbub.model import ClientInfo, Join, Position, PresenceStats, Publication
from hubbub.testing import FakeClock
from tests.brokers.recorder import Recorder

T = TypeVar("T")

ADA = ClientInfo("ada", "client-1")
PUBLICATION = Publication(b"1")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("suspended")


def test_memory_broker_is_a_broker_and_needs_no_loop_to_be_made() -> None:
    broker: Broker = MemoryBroker()

    assert broker.local


async def test_epoch_is_of_eight_letters_from_the_given_source() -> None:
    epochs = []
    for random in (Random(1), Random(1), None, None):
        broker = MemoryBroker(random=random)
        async with broker.running(Recorder()):
            epochs.append((await broker.history("a")).position.epoch)

    assert epochs[0] == epochs[1]
    assert len(set(epochs)) == 3
    for epoch in epochs:
        assert len(epoch) == 8
        assert set(epoch) <= set(string.ascii_letters)


# Calls of the receiver


async def test_what_is_published_while_delivering_follows_in_its_turn() -> None:
    def react(data: bytes) -> None:
        if len(data) < 3:
            run(broker.publish("a", Publication(data + b"x")))
            run(broker.announce("a", Join(ADA)))
            run(broker.send_control(data + b"y"))
            seen_inside.append(len(recorder.seen))

    seen_inside: list[int] = []
    broker, recorder = MemoryBroker(), Recorder(react)
    async with broker.running(recorder):
        await broker.subscribe(["a"])
        await broker.publish("a", Publication(b"0"))

    joins = [data for data in recorder.seen if data == b"join or leave"]
    others = [data for data in recorder.seen if data != b"join or leave"]
    assert others == [b"0", b"0x", b"0y", b"0xx", b"0xy", b"0yx", b"0yy"]
    assert len(joins) == 3
    assert seen_inside == [1, 2, 4]  # nothing came while in a call


async def test_key_used_again_while_delivering_is_dropped() -> None:
    def react(_: bytes) -> None:
        run(broker.publish("a", PUBLICATION, idempotency_key="k"))

    broker, recorder = MemoryBroker(), Recorder(react)
    async with broker.running(recorder):
        await broker.subscribe(["a"])
        await broker.publish("a", PUBLICATION, idempotency_key="k")

    assert recorder.seen == [b"1"]


async def test_receiver_that_raises_is_heard_of_and_misses_nothing() -> None:
    def react(data: bytes) -> None:
        if data == b"bad":
            run(broker.publish("a", Publication(b"within")))
            raise RuntimeError("a bug in the receiver")

    broker, recorder = MemoryBroker(), Recorder(react)
    async with broker.running(recorder):
        await broker.subscribe(["a"])
        with pytest.raises(RuntimeError, match="a bug in the receiver"):
            await broker.publish("a", Publication(b"bad"), history_size=1, history_ttl=60.0)
        at_once = list(recorder.seen)
        await broker.publish("a", Publication(b"next"))

    assert at_once == [b"bad", b"within"]
    assert recorder.seen == [b"bad", b"within", b"next"]


# Running


async def test_running_twice_at_once_is_refused_and_harmless() -> None:
    broker, recorder, second = MemoryBroker(), Recorder(), Recorder()
    async with broker.running(recorder):
        with pytest.raises(BrokerError, match="running already"):
            async with broker.running(second):
                pass
        await broker.send_control(b"1")

    assert recorder.seen == [b"1"]
    assert second.seen == []


async def test_running_again_finds_streams_but_no_presence_and_no_subscriptions() -> None:
    broker, recorder = MemoryBroker(clock=FakeClock()), Recorder()
    async with broker.running(recorder):
        await broker.subscribe(["a"])
        await broker.add_presence("a", "client-1", ADA, None)
        first = await broker.publish("a", PUBLICATION, history_size=5, history_ttl=60.0)
    recorder.seen.clear()
    async with broker.running(recorder):
        second = await broker.publish("a", PUBLICATION, history_size=5, history_ttl=60.0)
        history = await broker.history("a")
        stats = await broker.presence_stats("a")

    assert second == Position(first.epoch, 2)
    assert len(history.publications) == 2
    assert stats == PresenceStats(0, 0)
    assert recorder.seen == []


async def test_presence_of_an_earlier_run_ends_nothing_of_a_later_one() -> None:
    clock = FakeClock()
    broker = MemoryBroker(clock=clock)
    async with broker.running(Recorder()):
        await broker.add_presence("a", "client-1", ADA, 10.0)
    async with broker.running(Recorder()):
        await broker.add_presence("a", "client-1", ADA, None)
        clock.advance(60.0)
        present = await broker.presence("a")

    assert present == {"client-1": ADA}


class WatchedClock(FakeClock):
    """A clock that knows the timers that were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[WatchedTimer] = []

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        timer = WatchedTimer(super().call_later(delay, lambda: timer.call(callback)))
        self.timers.append(timer)
        return timer

    @property
    def waiting(self) -> int:
        return sum(timer.waiting for timer in self.timers)


class WatchedTimer:
    def __init__(self, timer: Timer) -> None:
        self.timer = timer
        self.waiting = True

    def call(self, callback: Callable[[], object]) -> None:
        self.waiting = False
        callback()

    def cancel(self) -> None:
        self.waiting = False
        self.timer.cancel()


async def test_one_timer_waits_while_running_if_something_can_expire() -> None:
    clock = WatchedClock()
    broker = MemoryBroker(clock=clock)
    waiting = []
    async with broker.running(Recorder()):
        waiting.append(clock.waiting)
        for ttl in (50.0, 60.0, 40.0):
            await broker.publish("a", PUBLICATION, history_size=1, history_ttl=ttl)
            await broker.publish("b", PUBLICATION, history_size=1, history_ttl=ttl)
        waiting.append(clock.waiting)
        clock.advance(45.0)
        waiting.append(clock.waiting)
    waiting.append(clock.waiting)
    async with broker.running(Recorder()):
        waiting.append(clock.waiting)
        clock.advance(32 * 86_400.0)  # epoch and offset too
        waiting.append(clock.waiting)

    assert waiting == [0, 1, 1, 0, 1, 0]
    assert len(clock.timers) < 10


async def test_stream_in_use_sets_no_timer_each_time() -> None:
    clock = WatchedClock()
    broker = MemoryBroker(clock=clock)
    async with broker.running(Recorder()):
        for _ in range(1_000):
            await broker.publish("a", PUBLICATION, history_size=1, history_ttl=50.0)
            clock.advance(0.1)

    assert len(clock.timers) < 10


async def test_streams_in_use_are_looked_at_again_by_one_timer() -> None:
    clock = WatchedClock()
    broker = MemoryBroker(clock=clock)
    async with broker.running(Recorder()):
        for ttl in (10.0, 20.0):
            for n in range(100):
                await broker.publish(str(n), PUBLICATION, history_size=1, history_ttl=ttl + n)
        clock.advance(11.0)

        assert clock.waiting == 1
        assert len(clock.timers) <= 3


async def test_times_without_end_are_kept() -> None:
    clock = FakeClock()
    broker = MemoryBroker(clock=clock)
    for_ever = float("inf")
    async with broker.running(Recorder()):
        await broker.publish(
            "a", PUBLICATION, history_size=1, history_ttl=for_ever, meta_ttl=for_ever
        )
        clock.advance(1e9)
        history = await broker.history("a", meta_ttl=for_ever)

    assert len(history.publications) == 1


# Memory


class Name(str):
    """A string that can be watched as it goes."""

    __slots__ = ("__weakref__",)


class DeafClock(FakeClock):
    """A clock whose calls never come, as in a loop that is busy."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        return super().call_later(float(2**31), callback)


async def use_once(broker: MemoryBroker, name: Name) -> None:
    """Leave every kind of entry, of 10 seconds, but a key of 5 minutes."""
    await broker.publish(
        name, PUBLICATION, history_size=5, history_ttl=10.0, meta_ttl=10.0, idempotency_key="k"
    )
    await broker.add_presence(name, "client-1", ADA, 10.0)


async def test_channels_used_once_are_forgotten_while_idle() -> None:
    clock = FakeClock()
    broker = MemoryBroker(clock=clock)
    names: WeakSet[Name] = WeakSet()
    async with broker.running(Recorder()):
        for n in range(2_500):
            name = Name(n)
            names.add(name)
            await use_once(broker, name)
        del name
        clock.advance(290.0)
        kept = len(names)
        clock.advance(30.0)

        assert kept == 2_500  # by the keys
        assert len(names) == 0


async def test_channels_used_once_are_forgotten_while_the_loop_is_busy() -> None:
    clock = DeafClock()
    broker = MemoryBroker(clock=clock)
    names: WeakSet[Name] = WeakSet()
    most = 0
    async with broker.running(Recorder()):
        for n in range(2_500):
            name = Name(n)
            names.add(name)
            await use_once(broker, name)
            clock.advance(1.0)
            most = max(most, len(names))

    assert 300 <= most <= 330


async def test_channels_only_read_are_forgotten_after_meta_ttl() -> None:
    clock = DeafClock()
    broker = MemoryBroker(clock=clock)
    names: WeakSet[Name] = WeakSet()
    async with broker.running(Recorder()):
        for n in range(100):
            name = Name(n)
            names.add(name)
            await broker.history(name, meta_ttl=10.0)
            clock.advance(1.0)

    assert len(names) <= 15


async def test_channels_are_forgotten_when_the_last_client_is_gone() -> None:
    broker = MemoryBroker()
    names: WeakSet[Name] = WeakSet()
    async with broker.running(Recorder()):
        for n in range(10):
            name = Name(n)
            names.add(name)
            await broker.add_presence(name, "client-1", ADA, None)
            await broker.add_presence(name, "client-2", ADA, 60.0)
            await broker.remove_presence(name, "client-1")
            await broker.remove_presence(name, "client-2")
        del name

        assert len(names) == 0


@pytest.mark.parametrize("history_ttl", [10.0, 30.0, 50.0])
async def test_streams_that_were_in_use_are_forgotten_part_by_part(history_ttl: float) -> None:
    clock = FakeClock()
    broker = MemoryBroker(clock=clock)
    names: WeakSet[Name] = WeakSet()
    data = bytes(1_000)
    before = sys.getrefcount(data)
    kept = []
    async with broker.running(Recorder()):
        name = Name("a")
        names.add(name)
        for _ in range(2):
            clock.advance(5.0)
            await broker.publish(
                name,
                Publication(data),
                history_size=5,
                history_ttl=history_ttl,
                meta_ttl=30.0,
            )
        del name
        end = min(history_ttl, 30.0)
        for seconds in (end - 1.0, 3.0, 30.0 - end):
            clock.advance(seconds)
            kept.append((sys.getrefcount(data) - before, len(names)))

    assert kept == [(2, 1), (0, 1 if history_ttl < 30.0 else 0), (0, 0)]


async def test_keys_end_on_time_however_many() -> None:
    clock = DeafClock()
    broker = MemoryBroker(clock=clock)

    async def publish_all() -> list[int]:
        return [
            (
                await broker.publish(
                    "a", PUBLICATION, history_size=1, history_ttl=60.0, idempotency_key=str(n)
                )
            ).offset
            for n in range(10)
        ]

    async with broker.running(Recorder()):
        offsets = []
        for seconds in (0.0, 299.0, 1.0, 400.0):
            clock.advance(seconds)
            offsets.append(await publish_all())

    ten = list(range(1, 11))
    assert offsets == [ten, ten, [n + 10 for n in ten], [n + 20 for n in ten]]


async def test_publications_that_were_trimmed_do_not_come_back_with_a_larger_size() -> None:
    broker = MemoryBroker()
    async with broker.running(Recorder()):
        for size in [20] * 22 + [22]:
            await broker.publish("a", PUBLICATION, history_size=size, history_ttl=60.0)
        history = await broker.history("a")

    assert [publication.offset for publication in history.publications] == list(range(3, 24))


async def test_channel_used_now_and_then_takes_no_more_memory_each_time() -> None:
    clock = FakeClock()
    broker = MemoryBroker(clock=clock)

    async def use() -> None:
        await broker.publish("a", PUBLICATION, history_size=1, history_ttl=10.0)
        await broker.history("a", meta_ttl=100.0)
        await broker.add_presence("a", "client-1", ADA, 10.0)
        await broker.remove_presence("a", "client-1")
        clock.advance(12.0)

    async with broker.running(Recorder()):
        for _ in range(200):
            await use()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(2_000):
                await use()
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert after - before < 20_000


async def test_publications_are_released_when_trimmed_removed_or_expired() -> None:
    clock = FakeClock()
    broker = MemoryBroker(clock=clock)
    data = bytes(1_000)
    before = sys.getrefcount(data)
    kept = []
    async with broker.running(Recorder()):
        for size, count in [(1, 10), (100, 1_000), (3, 1)]:
            for _ in range(count):
                await broker.publish("a", Publication(data), history_size=size, history_ttl=10.0)
            kept.append(sys.getrefcount(data) - before)
        clock.advance(11.0)
        kept.append(sys.getrefcount(data) - before)
        await broker.publish("a", Publication(data), history_size=5, history_ttl=10.0)
        await broker.remove_history("a")
        kept.append(sys.getrefcount(data) - before)

    assert kept[0] == 1
    assert 100 <= kept[1] <= 115
    assert kept[2:] == [3, 0, 0]


async def test_stream_that_expired_unseen_starts_anew() -> None:
    def publish(version: int = 0) -> Coroutine[Any, Any, Position]:
        return broker.publish(
            "a", PUBLICATION, history_size=5, history_ttl=10.0, meta_ttl=20.0, version=version
        )

    clock = DeafClock()
    broker = MemoryBroker(clock=clock)
    async with broker.running(Recorder()):
        first = await publish(version=3)
        clock.advance(10.0)
        second = await publish()
        kept = (await broker.history("a", meta_ttl=20.0)).publications
        clock.advance(20.0)
        third = await publish(version=3)

    assert second == Position(first.epoch, 2)
    assert [publication.offset for publication in kept] == [2]
    assert third.offset == 1
    assert third.epoch != first.epoch


async def test_channel_that_was_only_looked_at_is_forgotten_soon() -> None:
    clock = FakeClock()
    broker = MemoryBroker(clock=clock)
    async with broker.running(Recorder()):
        before = (await broker.history("a")).position
        clock.advance(299)
        assert (await broker.history("a")).position == before
        clock.advance(301)

        assert (await broker.history("a")).position.epoch != before.epoch


async def test_channel_with_a_subscriber_keeps_its_epoch_and_loses_it_after_the_last() -> None:
    clock = FakeClock()
    broker = MemoryBroker(clock=clock)
    async with broker.running(Recorder()):
        await broker.subscribe(["a"])
        before = (await broker.history("a")).position
        clock.advance(3600)
        assert (await broker.history("a")).position == before
        await broker.unsubscribe(["a"])
        clock.advance(301)

        assert (await broker.history("a")).position.epoch != before.epoch


async def test_channel_with_a_publication_keeps_its_epoch_though_nobody_is_left() -> None:
    clock = FakeClock()
    broker = MemoryBroker(clock=clock)
    async with broker.running(Recorder()):
        position = await broker.publish("a", PUBLICATION, history_size=1, history_ttl=1)
        clock.advance(3600)

        assert (await broker.history("a")).position == position
