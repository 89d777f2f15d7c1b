"""Hub and recovery against a list of publications, whatever happens in whatever order.

The invariant: a client that never lost its subscription, or was told `recovered: true`, has got
each publication of the epoch exactly once and in order from where it began. Otherwise it was told,
by `recovered: false` or the codes 112, 2500 or 3010, and goes on from the top that it was told.
"""

import asyncio
import functools
import json
import tempfile
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hubbub import Hub
from hubbub.brokers.base import Broker, Receiver
from hubbub.brokers.sqlite import SqliteBroker
from hubbub.clock import Clock
from hubbub.errors import PositionLost
from hubbub.hub.listening import Listening
from hubbub.hub.positions import DELIVERY_TIME
from hubbub.model import ChannelKeywords, Limits, Position, Publication
from hubbub.testing import FakeClock
from tests.hub.sdk_model import MemoryClient, Port, SDKModel, Track
from tests.hub.suspending import Hold, Record, RecordingBroker, SuspendingBroker, SuspendingStore
from tests.hub.virtual import VirtualLoop

T = TypeVar("T")

TTL, META_TTL = 60.0, 600.0
RECOVERY = 6

ALL: ChannelKeywords = {"ttl": TTL, "meta_ttl": META_TTL, "publish": "anyone"}
CHANNELS: dict[str, ChannelKeywords] = {
    "stream": {"history": 4, "presence": True, "join_leave": True},
    "cache": {"history": 3, "recovery": "cache"},
    "tags": {"history": 6, "tags_filter": True},
    "delta": {"history": 20, "delta": True, "presence": True},
    "free": {"presence": True, "join_leave": True},
}
REQUESTS: dict[str, dict[str, Any]] = {
    "stream": {},
    "cache": {"cache": True},
    "tags": {"tf": {"key": "k", "cmp": "eq", "val": "a"}},
    "delta": {"delta": "fossil"},
    "free": {},
}

NAMES = st.sampled_from([*CHANNELS, "stream", "stream"])
CLIENTS = st.integers(0, 2)
NODES = st.integers(0, 1)

# What ends a connection or a subscription in here.
CODES = frozenset({0, 3001, 3004, 3010, 3011})  # 3004: an unsubscribe waited too long
UNSUBSCRIBE_CODES = frozenset({2000, 2500})


@dataclass
class Listener:
    """A subscriber within the process, which subscribes again when it has missed something.

    Attributes:
        segments: Each begins at a position; with the offsets and payloads that came.
    """

    hub: Hub
    channel: str
    segments: list[tuple[Position, list[tuple[int, Any]]]] = field(default_factory=list)
    loose: list[Any] = field(default_factory=list)
    refusals: int = 0
    task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        since: Position | None = None
        while True:
            try:
                async with self.hub.subscribe(self.channel, since=since) as publications:
                    if since is None:
                        assert isinstance(publications, Listening)
                        self.segments.append((publications.position or Position(), []))
                    await self._take(publications)
                    return
            except PositionLost:
                self.refusals += 1
                # Once from where it stood, then from the top.
                start, taken = self.segments[-1] if self.segments else (Position(), [])
                again = Position(start.epoch, taken[-1][0] if taken else start.offset)
                since = again if since != again and self.segments else None

    async def _take(self, publications: Listening) -> None:
        async for publication in publications:
            data = json.loads(publication.data)
            if not publication.offset:
                self.loose.append(data)
            else:
                self.segments[-1][1].append((publication.offset, data))


@dataclass
class Kept:
    """What the model knows of a channel's history beyond the list of publications.

    Attributes:
        removed: Offset up to which the publications were removed.
        published: When the last one was published.
    """

    epoch: str = ""
    removed: int = 0
    published: float = 0.0


class HubMachine(RuleBasedStateMachine):
    """Clients of one or two hubs, which lose their connections and come back."""

    node_count: ClassVar[int] = 1

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.clock = FakeClock()
        self.calm = True
        self.hubs: list[Hub] = []
        self.ports: list[Port] = []
        self.clients: list[MemoryClient] = []
        self.listeners: list[Listener] = []
        self.tasks = set[asyncio.Task[Any]]()
        self.failures: list[str] = []
        self.count = 0
        self.checked = 0
        self.kept: dict[str, Kept] = {}

    # What the two kinds of machines differ in.

    def broker(self, node: int) -> Broker:
        raise NotImplementedError

    @property
    def record(self) -> Record:
        raise NotImplementedError

    # The surroundings.

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    def act(self, action: Callable[[], object]) -> None:
        """Do something within the loop, and let everything happen that is not held back."""

        async def do() -> None:
            action()
            await self.settle()

        self.run(do())

    async def settle(self) -> None:
        await asyncio.sleep(2 * DELIVERY_TIME)

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failures.append(f"{task.exception()!r}")

    def _errors(self, loop: object, context: dict[str, Any]) -> None:
        self.failures.append(repr(context))

    async def start(self, node: int) -> None:
        hub = Hub(
            self.broker(node),
            clock=self.clock,
            limits=Limits(recovery=RECOVERY),
            ping_interval=0,
        )
        for name, options in CHANNELS.items():
            declared: ChannelKeywords = {**ALL, **options}
            hub.channel(name, **declared)
        await hub.__aenter__()
        self.hubs[node : node + 1] = [hub]
        self.ports[node : node + 1] = [Port(hub)]

    @initialize(late=st.booleans())
    def enter(self, late: bool) -> None:
        self.late = late
        self.loop.set_exception_handler(self._errors)

        async def start() -> None:
            for node in range(self.node_count):
                await self.start(node)

        self.run(start())
        self.clients = [
            MemoryClient(SDKModel(f"client {n}", strict_roster=not late)) for n in range(3)
        ]
        for n in range(len(self.clients)):
            self.act(functools.partial(self.connect, n))

    def connect(self, client: int) -> None:
        self.clients[client].open(self.ports[client % self.node_count])

    def teardown(self) -> None:
        try:
            if self.hubs:
                self.become_calm()
                self.run(self.leave())
                self.check()
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.run(asyncio.sleep(0))
            self.loop.close()

    async def leave(self) -> None:
        for hub in self.hubs:
            await hub.__aexit__(None, None, None)
        await self.settle()
        assert not [port for port in self.ports if port.handler_tasks]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    # What happens.

    @rule(
        channel=NAMES,
        client=st.none() | CLIENTS,
        node=NODES,
        history=st.sampled_from([True, True, True, False]),
        tag=st.sampled_from("aab"),
        times=st.sampled_from([1, 1, 1, 2, 6]),
    )
    def publish(
        self, channel: str, client: int | None, node: int, history: bool, tag: str, times: int
    ) -> None:
        for _ in range(times):
            self.count += 1
            message = {"n": self.count, "text": f"a text that is long enough {self.count % 3}"}
            if client is None:
                hub = self.hubs[node % self.node_count]
                publishing = hub.publish(channel, message, history=history, tags={"k": tag})
                self.act(functools.partial(self.begin, publishing))
            else:
                sdk = self.clients[client].sdk
                if sdk.state != "connected":
                    continue
                fields = {"channel": channel, "data": message}
                self.act(functools.partial(sdk.command, "publish", **fields))
            if history or client is not None:
                self.note(channel)

    def note(self, channel: str) -> None:
        """Take note of when a channel was published in."""
        epoch = self.record.epochs.get(channel, "")
        kept = self.kept.setdefault(channel, Kept(epoch))
        top = len(self.record.record[channel, epoch])
        if self.calm and self.clock.monotonic() >= kept.published + TTL:
            kept.removed = max(kept.removed, top - 1)
        if kept.epoch != epoch:
            kept.epoch, kept.removed = epoch, 0
        kept.published = self.clock.monotonic()

    @rule(client=CLIENTS, channel=NAMES, rejects=st.booleans())
    def subscribe(self, client: int, channel: str, rejects: bool) -> None:
        request = REQUESTS[channel] | ({"flag": 3} if rejects else {})
        self.act(lambda: self.clients[client].sdk.subscribe(channel, **request))

    @rule(client=CLIENTS, channel=NAMES)
    def unsubscribe(self, client: int, channel: str) -> None:
        self.act(lambda: self.clients[client].sdk.unsubscribe(channel))

    @rule(client=CLIENTS, channel=NAMES)
    def subscribe_in_a_hurry(self, client: int, channel: str) -> None:
        sdk = self.clients[client].sdk

        def hurry() -> None:
            for _ in range(3):
                sdk.subscribe(channel, **REQUESTS[channel])
                sdk.unsubscribe(channel)
            sdk.subscribe(channel, **REQUESTS[channel])

        self.act(hurry)

    @rule(client=CLIENTS)
    def drop(self, client: int) -> None:
        self.act(self.clients[client].drop)

    @rule(client=CLIENTS)
    def reconnect(self, client: int) -> None:
        if not self.clients[client].is_open:
            self.act(lambda: self.connect(client))

    @rule(
        client=CLIENTS,
        channel=NAMES,
        times=st.sampled_from([0, 1, 4, 5, 6, 7, 8]),
        removes=st.booleans(),
    )
    def come_back(self, client: int, channel: str, times: int, removes: bool) -> None:
        """Miss something, and perhaps too much."""
        self.subscribe(client, channel, False)
        self.drop(client)
        self.publish(channel, None, 0, True, "a", times)
        if removes:
            self.remove_history(channel)
            self.publish(channel, None, 0, True, "a", 1)
        self.reconnect(client)

    @rule(client=CLIENTS, channel=NAMES, code=st.sampled_from([2000, 2500]))
    def unsubscribe_by_server(self, client: int, channel: str, code: int) -> None:
        sdk, hub = self.clients[client].sdk, self.hubs[0]
        if sdk.client:
            call = hub.unsubscribe(channel, client=sdk.client, code=code)
            self.act(lambda: self.begin(call))

    @rule(client=CLIENTS)
    def disconnect_by_server(self, client: int) -> None:
        sdk, hub = self.clients[client].sdk, self.hubs[0]
        if sdk.client:
            call = hub.disconnect(client=sdk.client, code=3011)
            self.act(lambda: self.begin(call))

    @rule(seconds=st.sampled_from([1, 5, 20, 59, 60, 300, 620]))
    def advance(self, seconds: int) -> None:
        if not self.calm:
            seconds = min(seconds, 20)
        self.act(lambda: self.clock.advance(seconds))

    @rule(channel=NAMES)
    def remove_history(self, channel: str) -> None:
        if channel != "free":
            call = self.hubs[0].remove_history(channel)
            self.act(lambda: self.begin(call))
            epoch = self.record.epochs.get(channel, "")
            kept = self.kept.setdefault(channel, Kept(epoch))
            kept.removed = len(self.record.record[channel, epoch])

    @rule(node=NODES)
    def restart(self, node: int) -> None:
        node %= self.node_count

        async def restart() -> None:
            await self.hubs[node].__aexit__(None, None, None)
            await self.settle()
            assert not self.ports[node].handler_tasks
            await self.start(node)
            await self.settle()

        self.release_all()
        self.run(restart())

    @rule(node=NODES, channel=st.sampled_from(["stream", "delta"]))
    def listen(self, node: int, channel: str) -> None:
        if len(self.listeners) < 2:
            listener = Listener(self.hubs[node % self.node_count], channel)
            self.listeners.append(listener)

            def begin() -> None:
                listener.task = asyncio.get_running_loop().create_task(listener.run())

            self.act(begin)

    @precondition(lambda self: self.listeners)
    @rule()
    def stop_listening(self) -> None:
        listener = self.listeners.pop()
        assert listener.task is not None
        self.act(listener.task.cancel)

    @rule()
    def become_calm(self) -> None:
        """Let all that is under way arrive, and everybody be back; then look at everything."""
        for _ in range(20):
            self.release_all()
            for n, client in enumerate(self.clients):
                if not client.is_open:
                    self.act(functools.partial(self.connect, n))
            self.act(lambda: None)
            self.check()
            if self.is_quiet():
                break
        else:
            raise AssertionError("no end of what is under way")
        self.check_all()

    def release_all(self) -> None:
        """Hold nothing back."""

    def is_quiet(self) -> bool:
        sdks = [client.sdk for client in self.clients]
        return (
            not self.tasks
            and all(client.is_open for client in self.clients)
            and all(sdk.state == "connected" and not sdk.waits for sdk in sdks)
            and all(t.state != "subscribing" for sdk in sdks for t in sdk.tracks.values())
        )

    # What must be true.

    def published(self, channel: str, epoch: str, after: int, tag: str = "") -> list[Any]:
        """All that was published in an epoch after an offset."""
        record = self.record.record.get((channel, epoch), [])
        return [
            (offset, json.loads(publication.data))
            for offset, publication in enumerate(record, 1)
            if offset > after and (not tag or publication.tags.get("k") == tag)
        ]

    @invariant()
    def check(self) -> None:
        """Nobody has missed anything up to what came last."""
        assert not self.failures, self.failures
        for client in self.clients:
            sdk = client.sdk
            assert not sdk.failures, sdk.failures
            assert sdk.close_code in CODES
            assert {code for _, code in sdk.unsubscribed} <= UNSUBSCRIBE_CODES
            for track in sdk.tracks.values():
                for segment in track.segments:
                    expected = self.expected(track, segment.epoch, segment.start)
                    assert segment.taken == expected[: len(segment.taken)]
                numbers = [data["n"] for data in track.loose]
                assert len(numbers) == len(set(numbers)), "twice"
        for listener in self.listeners:
            for start, taken in listener.segments:
                expected = self.published(listener.channel, start.epoch, start.offset)
                assert taken == expected[: len(taken)]

    def expected(self, track: Track, epoch: str, start: int) -> list[Any]:
        return self.published(track.channel, epoch, start, "a" if "tf" in track.request else "")

    def check_all(self) -> None:
        """Nobody has missed anything at all, and nothing is left behind."""
        self.check()
        # Positions are compared with the store's, and presence is prolonged.
        for _ in range(5):
            self.act(lambda: self.clock.advance(20))
            self.release_all()
        self.act(lambda: None)
        self.check()
        if not self.is_quiet():
            return self.become_calm()
        for client in self.clients:
            for track in client.sdk.tracks.values():
                if track.state == "subscribed" and track.positioned:
                    segment = track.segments[-1]
                    expected = self.expected(track, segment.epoch, segment.start)
                    assert segment.taken == expected, track.channel
        for listener in self.listeners:
            if listener.task is not None and not listener.task.done():
                start, taken = listener.segments[-1]
                assert taken == self.published(listener.channel, start.epoch, start.offset)
        self.check_books()
        self.check_loose()
        return None

    def check_books(self) -> None:
        for channel, options in CHANNELS.items():
            subscribed = [self.subscribed(channel, node) for node in range(self.node_count)]
            for node, hub in enumerate(self.hubs):
                assert hub.channels().get(channel, 0) == len(subscribed[node]), channel
            everybody = sorted(client for clients in subscribed for client in clients)
            if options.get("presence"):
                assert sorted(self.run(self.hubs[0].presence(channel))) == everybody
            if options.get("join_leave"):
                for sdk in (client.sdk for client in self.clients):
                    track = sdk.tracks.get(channel)
                    if track is not None and track.state == "subscribed":
                        self.check_roster(track, sdk.client, everybody)

    def check_roster(self, track: Track, client: str, everybody: list[str]) -> None:
        assert track.joined == 1
        for other, event in track.roster.items():
            assert (event == "join") == (other in everybody), f"{other} of {everybody}: {event}"
        assert track.roster.get(client) == "join"

    def subscribed(self, channel: str, node: int) -> list[str]:
        return [
            client.sdk.client
            for n, client in enumerate(self.clients)
            if n % self.node_count == node
            and channel in client.sdk.tracks
            and client.sdk.tracks[channel].state == "subscribed"
        ]

    def check_loose(self) -> None:
        """What is published without history reaches all who are subscribed."""
        for channel in CHANNELS:
            self.count += 1
            message = {"n": self.count}
            call = self.hubs[0].publish(channel, message, history=False, tags={"k": "a"})
            self.act(functools.partial(self.begin, call))
            for client in self.clients:
                track = client.sdk.tracks.get(channel)
                if track is not None and track.state == "subscribed":
                    assert track.loose[-1:] == [message], channel


class LocalMachine(HubMachine):
    """With the broker in memory; nothing is ever under way between two rules."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = RecordingBroker(clock=self.clock)

    def broker(self, node: int) -> Broker:
        return self.memory

    @property
    def record(self) -> Record:
        return self.memory

    def act(self, action: Callable[[], object]) -> None:
        super().act(action)
        self.check_recoveries()

    def check_recoveries(self) -> None:
        """Who can recover does, and nobody else."""
        for client in self.clients:
            sdk = client.sdk
            for result in sdk.results:
                track = sdk.tracks[result.channel]
                if result.since is None or track.cache or result.channel == "free":
                    continue
                epoch, since = result.since
                top = len(self.record.record.get((result.channel, result.epoch), ()))
                possible = epoch == result.epoch and since <= top
                if since < top:
                    kept = self.kept.get(result.channel, Kept())
                    oldest = max(kept.removed, top - CHANNELS[result.channel]["history"])
                    expired = self.clock.monotonic() >= kept.published + TTL
                    possible = possible and since >= oldest and not expired
                    possible = possible and top - since <= RECOVERY
                assert result.recovered == possible, result
                assert result.offset == (since if possible else top)
            sdk.results.clear()


class RecordingSqlite(SqliteBroker, Record):
    """The broker in an SQLite file, and all that was ever published to it.

    Attributes:
        moves: Whether it is being entered or left.
    """

    def __init__(self, path: Path, *, clock: Clock) -> None:
        SqliteBroker.__init__(self, path, synchronous="normal", clock=clock)
        Record.__init__(self)
        self.moves = False

    @asynccontextmanager
    async def running(self, receiver: Receiver) -> AsyncGenerator[None]:
        self.moves = True
        async with super().running(receiver):
            self.moves = False
            try:
                yield
            finally:
                self.moves = True
        self.moves = False

    async def publish(self, channel: str, publication: Publication, **options: Any) -> Position:
        position = await super().publish(channel, publication, **options)
        self.note(channel, publication, position)
        return position


class SqliteMachine(LocalMachine):
    """With the broker in an SQLite file; what is under way to the disk is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.sqlite = RecordingSqlite(Path(self.directory.name, "hub.db"), clock=self.clock)
        self.loop.busy = lambda: self.sqlite.moves or self.sqlite.waiting > 0

    def broker(self, node: int) -> Broker:
        return self.sqlite

    @property
    def record(self) -> Record:
        return self.sqlite

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


class SuspendingMachine(HubMachine):
    """Two hubs, whose broker takes its steps in any order and may lose what it delivers."""

    node_count = 2

    def __init__(self) -> None:
        super().__init__()
        self.store = SuspendingStore(self.clock)
        self.nodes: list[SuspendingBroker] = []
        self.holding: Hold | None = None
        self.lost = set[str]()
        self.calm = False

    def broker(self, node: int) -> Broker:
        self.store.late = self.late
        broker = self.store.node()
        self.nodes[node : node + 1] = [broker]
        return broker

    @property
    def record(self) -> Record:
        return self.store.memory

    def teardown(self) -> None:
        super().teardown()
        assert not self.store.pending

    @rule()
    def hold(self) -> None:
        """Hold everything back from now on."""
        if self.holding is None:
            self.holding = self.store.hold()

    @precondition(lambda self: self.store.pending)
    @rule(choices=st.lists(st.integers(0, 40), min_size=1, max_size=8))
    def release(self, choices: list[int]) -> None:
        for choice in choices:
            pending = self.store.pending
            if pending:
                self.act(pending[choice % len(pending)].go)

    @precondition(lambda self: self.store.pending)
    @rule(name=st.sampled_from(["deliver", "history", "subscribe", "add_presence", "control"]))
    def release_kind(self, name: str) -> None:
        for step in [step for step in self.store.pending if step.name == name]:
            self.act(step.go)

    @rule(node=NODES, channel=NAMES)
    def lose(self, node: int, channel: str) -> None:
        if channel != "free":
            broker = self.nodes[node]
            if broker.lose(channel):
                # Joins and leaves are lost as well, and nobody is told.
                self.lost.add(channel)
                for client in self.clients:
                    client.sdk.strict_roster = False
                self.act(lambda: broker.suspect([channel]))

    def release_all(self) -> None:
        if self.holding is not None:
            self.act(self.holding.release)
            self.holding = None
        self.act(lambda: None)

    def check_books(self) -> None:
        super().check_books()
        for node, broker in enumerate(self.nodes):
            wanted = {channel for channel in CHANNELS if self.subscribed(channel, node)}
            wanted |= {
                listener.channel
                for listener in self.listeners
                if listener.hub is self.hubs[node]
                and listener.task is not None
                and not listener.task.done()
            }
            assert broker.channels == wanted

    def check_roster(self, track: Track, client: str, everybody: list[str]) -> None:
        # Late events are of a time in between which others were missed.
        if track.channel not in self.lost and not self.late:
            super().check_roster(track, client, everybody)


TestLocal = LocalMachine.TestCase
TestLocal.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)
TestSqlite = SqliteMachine.TestCase
TestSqlite.settings = settings(
    max_examples=12,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)
TestSuspending = SuspendingMachine.TestCase
TestSuspending.settings = settings(
    max_examples=160,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)
