"""A model of streams, for brokers that are alone and take their time from a clock."""

from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hubbub.brokers.base import Broker, Event
from hubbub.model import Position, Publication
from hubbub.testing import FakeClock

__all__ = ["Recorder", "StreamMachine"]

T = TypeVar("T")


class Recorder:
    """A receiver that keeps what it gets."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Event]] = []

    def deliver(self, channel: str, event: Event) -> None:
        self.events.append((channel, event))

    def control(self, message: bytes) -> None:
        raise AssertionError("nobody sends one")

    def suspect(self, channels: object) -> None:
        raise AssertionError("nothing is lost")


@dataclass
class Stream:
    """A stream, as plain as can be."""

    epoch: str
    ends: float
    top: int = 0
    version: tuple[int, str] = (0, "")
    publications: list[Publication] = field(default_factory=list)
    publications_end: float = 0.0


CHANNELS = st.sampled_from(["a", "b"])
SECONDS = st.integers(1, 8)
KEYS = st.sampled_from(["", "", "", "k", "l"])
VERSIONS = st.sampled_from([0, 0, 1, 2, 3])
VERSION_EPOCHS = st.sampled_from(["", "v", "w"])
SINCE = st.none() | st.integers(0, 12)
LIMITS = st.none() | st.integers(0, 5)


class StreamMachine(RuleBasedStateMachine):
    """Streams do what a list with times does, whatever happens in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.recorder = Recorder()
        self.now = 0.0
        self.streams: dict[str, Stream] = {}
        self.keys: dict[tuple[str, str], tuple[Position, float]] = {}
        self.subscribed = set[str]()
        self.delivered: list[tuple[str, Event]] = []
        self.epochs = set[str]()

    # What the brokers differ in.

    def make(self) -> Broker:
        raise NotImplementedError

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        raise NotImplementedError

    def advance_clock(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @initialize()
    def enter(self) -> None:
        self.broker = self.make()
        self.running = self.broker.running(self.recorder)
        self.run(self.running.__aenter__())

    def leave(self) -> None:
        self.run(self.running.__aexit__(None, None, None))

    def teardown(self) -> None:
        self.leave()

    def use(self, channel: str, epoch: str, meta_ttl: float) -> Stream:
        """The model of a stream that the broker says has this epoch now."""
        stream = self.streams.get(channel)
        if stream is None or self.now >= stream.ends:
            assert epoch not in self.epochs
            self.epochs.add(epoch)
            stream = self.streams[channel] = Stream(epoch, 0.0)
        if self.now >= stream.publications_end:
            stream.publications.clear()
        stream.ends = self.now + meta_ttl
        return stream

    @rule(channel=CHANNELS)
    def subscribe(self, channel: str) -> None:
        self.run(self.broker.subscribe([channel]))
        self.subscribed.add(channel)

    @rule(channel=CHANNELS)
    def unsubscribe(self, channel: str) -> None:
        self.run(self.broker.unsubscribe([channel]))
        self.subscribed.discard(channel)

    @rule(
        channel=CHANNELS,
        size=st.integers(0, 12),
        ttl=st.integers(0, 8),
        meta_ttl=SECONDS,
        key=KEYS,
        version=VERSIONS,
        version_epoch=VERSION_EPOCHS,
        times=st.sampled_from([1, 1, 1, 12]),
    )
    def publish(
        self,
        channel: str,
        size: int,
        ttl: int,
        meta_ttl: int,
        key: str,
        version: int,
        version_epoch: str,
        times: int,
    ) -> None:
        for _ in range(times):
            data = b"%d" % len(self.delivered)
            position = self.run(
                self.broker.publish(
                    channel,
                    Publication(data),
                    history_size=size,
                    history_ttl=ttl,
                    meta_ttl=meta_ttl,
                    idempotency_key=key,
                    version=version,
                    version_epoch=version_epoch,
                )
            )
            first, ends = self.keys.get((channel, key), (None, 0.0))
            if key and first is not None and self.now < ends:
                assert first == position
                continue
            self.keys[channel, key] = (position, self.now + 300)
            publication = Publication(data, offset=position.offset, epoch=position.epoch)
            if size and ttl:
                stream = self.use(channel, position.epoch, meta_ttl)
                if version:
                    last, last_epoch = stream.version
                    if version <= last and version_epoch in {"", last_epoch}:
                        assert Position(stream.epoch, stream.top) == position
                        continue
                    stream.version = (version, version_epoch)
                stream.top += 1
                stream.publications = [*stream.publications, publication][-size:]
                stream.publications_end = self.now + ttl
                assert Position(stream.epoch, stream.top) == position
            else:
                assert Position() == position
            if channel in self.subscribed:
                self.delivered.append((channel, publication))

    @rule(
        channel=CHANNELS,
        since=SINCE,
        foreign=st.booleans(),
        named=st.booleans(),
        limit=LIMITS,
        reverse=st.booleans(),
        meta_ttl=SECONDS,
    )
    def read(
        self,
        channel: str,
        since: int | None,
        foreign: bool,
        named: bool,
        limit: int | None,
        reverse: bool,
        meta_ttl: int,
    ) -> None:
        known = self.streams.get(channel)
        # The epoch that was, perhaps, until now.
        epoch = known.epoch if named and known is not None else "elsewhere" if foreign else ""
        history = self.run(
            self.broker.history(
                channel,
                since=None if since is None else Position(epoch, since),
                limit=limit,
                reverse=reverse,
                meta_ttl=meta_ttl,
            )
        )
        stream = self.use(channel, history.position.epoch, meta_ttl)
        expected = stream.publications
        if since is not None:
            expected = [
                item
                for item in expected
                if (item.offset < since if reverse else item.offset > since)
            ]
            if epoch not in {"", stream.epoch}:
                expected = []
        expected = (expected[::-1] if reverse else expected)[:limit]

        assert Position(stream.epoch, stream.top) == history.position
        assert tuple(expected) == history.publications

    @rule(channel=CHANNELS)
    def remove(self, channel: str) -> None:
        self.run(self.broker.remove_history(channel))
        if channel in self.streams:
            self.streams[channel].publications.clear()

    @rule(seconds=st.sampled_from([1, 2, 3, 5, 8, 290, 300]))
    def advance(self, seconds: int) -> None:
        self.advance_clock(seconds)
        self.now += seconds

    @invariant()
    def everything_is_delivered_once_in_order(self) -> None:
        assert self.delivered == self.recorder.events
