"""What may happen between two steps of a broker, one nasty order at a time.

Time is virtual: after each act everything has happened that the test does not hold back.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hubbub import Hub
from hubbub.errors import BrokerError, PositionLost
from hubbub.hub.client import Client
from hubbub.hub.listening import Listening
from hubbub.hub.positions import DELIVERY_TIME
from hubbub.model import Position, Publication, User
from hubbub.testing import BROKER_CHECKS, FakeClock, check_broker
from tests.hub.sdk_model import MemoryClient, Port, SDKModel
from tests.hub.suspending import Hold, Step, SuspendingBroker, SuspendingStore, When
from tests.hub.virtual import VirtualLoop

CHANNEL, SECOND = "stream:one", "stream:two"

# The steps of a subscribe command, in order.
STEPS: list[tuple[str, When]] = [
    ("subscribe", "request"),
    ("subscribe", "answer"),
    ("add_presence", "request"),
    ("add_presence", "answer"),
    ("history", "request"),
    ("history", "answer"),
    ("announce join", "request"),
    ("announce join", "answer"),
]


class Stage:
    """Two hubs over one store, and their clients."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.clock = FakeClock()
        self.store = SuspendingStore(self.clock)
        self.hubs: list[Hub] = []
        self.ports: list[Port] = []
        self.nodes: list[SuspendingBroker] = []
        self.clients: list[MemoryClient] = []
        self.granted: list[str] = []
        self.errors: list[dict[str, Any]] = []
        self.count = 0
        self.loop.set_exception_handler(lambda loop, context: self.errors.append(context))

    def enter(self) -> None:
        for _ in range(2):
            broker = self.store.node()
            hub = Hub(broker, clock=self.clock, ping_interval=0)
            hub.channel("stream:{n}", history=10, presence=True, join_leave=True)
            hub.channel("short", history=10, meta_ttl=5.0, ttl=5.0, join_leave=True)
            hub.channel("plain", presence=True, join_leave=True)
            hub.on_connect(self._connect)
            self.nodes.append(broker)
            self.hubs.append(hub)
            self.ports.append(Port(hub))
            self.loop.run_until_complete(hub.__aenter__())

    def _connect(self, client: Client) -> User:
        return User("granted" if self.granted else "", channels=self.granted)

    def leave(self) -> None:
        for hold in list(self.store.holds):
            self.do(hold.release)
        for hub in self.hubs:
            self.loop.run_until_complete(hub.__aexit__(None, None, None))
        self.do(lambda: None)
        left = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
        for task in left:
            task.cancel()
        self.do(lambda: None)
        self.loop.close()
        assert not left
        assert not self.errors
        for client in self.clients:
            assert not client.sdk.failures, client.sdk.failures

    def do(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do something, and let everything happen that is not held back.

        Returns:
            What it returned; a task if that was a coroutine.
        """

        async def perform() -> Any:
            result = act(*args, **kwargs)
            if asyncio.iscoroutine(result):
                result = asyncio.get_running_loop().create_task(result)
            await asyncio.sleep(2 * DELIVERY_TIME)
            return result

        return self.loop.run_until_complete(perform())

    def get(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return the result of something that nothing holds back."""
        return self.do(act, *args, **kwargs).result()

    def client(self, node: int = 0, *channels: str) -> MemoryClient:
        client = MemoryClient(SDKModel(f"client {len(self.clients)}"))
        self.clients.append(client)
        self.do(client.open, self.ports[node])
        for channel in channels:
            self.do(client.sdk.subscribe, channel)
            assert client.sdk.tracks[channel].state == "subscribed"
        return client

    def publish(self, channel: str = CHANNEL, **options: Any) -> int:
        self.count += 1
        self.do(self.hubs[1].publish, channel, self.count, **options)
        return self.count

    def advance(self, seconds: int) -> None:
        for _ in range(seconds):
            self.do(self.clock.advance, 1)

    def present(self, channel: str = CHANNEL) -> list[str]:
        return sorted(self.get(self.hubs[1].presence, channel))

    def assert_nothing_left(self) -> None:
        """Nobody is subscribed to anything on the first node."""
        assert self.hubs[0].channels() == {}
        assert self.nodes[0].channels == set()
        assert not self.store.pending
        for channel in (CHANNEL, SECOND, "plain"):
            here = {client.sdk.client for client in self.clients}
            others = set(self.present(channel))
            assert others <= here
            for client in self.clients:
                track = client.sdk.tracks.get(channel)
                subscribed = track is not None and track.state == "subscribed"
                assert (client.sdk.client in others) == subscribed, channel


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    stage.enter()
    yield stage
    stage.leave()


def taken(client: MemoryClient, channel: str = CHANNEL) -> list[Any]:
    """What a client has got, in one list per unbroken segment."""
    return [[data for _, data in segment.taken] for segment in client.sdk.tracks[channel].segments]


def state(client: MemoryClient, channel: str = CHANNEL) -> str:
    return client.sdk.tracks[channel].state


def reached(hold: Hold) -> Step:
    assert hold.steps, "the step was never reached"
    return hold.steps[0]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("guarantee", BROKER_CHECKS)
def test_suspending_broker_guarantees(guarantee: str, late: bool) -> None:
    clock = FakeClock()
    store = SuspendingStore(clock)
    store.late = late
    check = check_broker(lambda clock: store.node(), clock=clock, checks=[guarantee], quiet=0.1)
    loop = VirtualLoop()
    loop.run_until_complete(check)
    loop.close()


# The end, while a subscription is being made.


def by_client(stage: Stage, client: MemoryClient) -> None:
    stage.do(client.sdk.unsubscribe, CHANNEL)


def by_drop(stage: Stage, client: MemoryClient) -> None:
    stage.do(client.drop)


def by_hub(stage: Stage, client: MemoryClient) -> None:
    stage.do(stage.hubs[1].unsubscribe, CHANNEL, client=client.sdk.client)


def by_disconnect(stage: Stage, client: MemoryClient) -> None:
    stage.do(stage.hubs[1].disconnect, client=client.sdk.client, code=3011)


ENDS = [by_client, by_drop, by_hub, by_disconnect]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(("name", "when"), STEPS)
def test_end_during_subscribe_leaves_nothing(
    stage: Stage, name: str, when: When, end: Callable[[Stage, MemoryClient], None]
) -> None:
    observer = stage.client(1, CHANNEL)
    client = stage.client()
    hold = stage.store.hold(name, when)
    stage.do(client.sdk.subscribe, CHANNEL)
    reached(hold)
    end(stage, client)
    stage.publish()
    stage.do(hold.release)

    assert not client.sdk.waits
    assert not client.is_open or state(client) == "unsubscribed"
    stage.assert_nothing_left()
    assert observer.sdk.tracks[CHANNEL].roster.get(client.sdk.client, "leave") == "leave"
    assert taken(observer) == [[1]]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(("name", "when"), STEPS)
def test_end_during_subscribe_lets_the_next_one_stand(
    stage: Stage, name: str, when: When, end: Callable[[Stage, MemoryClient], None]
) -> None:
    observer = stage.client(1, CHANNEL)
    client = stage.client()
    hold = stage.store.hold(name, when, calls=1)
    stage.do(client.sdk.subscribe, CHANNEL)
    reached(hold)
    end(stage, client)
    if not client.is_open:
        stage.do(client.open, stage.ports[0])
    stage.do(client.sdk.subscribe, CHANNEL)
    stage.do(hold.release)
    stage.do(client.sdk.subscribe, CHANNEL)  # again, if the hub had ended it
    stage.publish()

    assert state(client) == "subscribed"
    assert taken(client)[-1] == [1]
    assert stage.hubs[0].channels() == {CHANNEL: 1}
    assert stage.present() == sorted([observer.sdk.client, client.sdk.client])
    assert observer.sdk.tracks[CHANNEL].roster[client.sdk.client] == "join"


@pytest.mark.parametrize(("name", "when"), STEPS)
@pytest.mark.parametrize("end", ["drop", "unsubscribe", "disconnect"])
def test_end_during_connect_with_subscriptions_leaves_nothing(
    stage: Stage, name: str, when: When, end: str
) -> None:
    observer = stage.client(1, CHANNEL, SECOND)
    stage.granted = [CHANNEL, SECOND]
    hold = stage.store.hold(name, when, SECOND)
    client = stage.client()
    reached(hold)
    if end == "drop":
        stage.do(client.drop)
    elif end == "disconnect":
        stage.do(stage.hubs[1].disconnect, user="granted", code=3011)
    else:
        stage.do(stage.hubs[1].unsubscribe, CHANNEL, user="granted")
        stage.do(stage.hubs[1].unsubscribe, SECOND, user="granted")
    stage.do(hold.release)

    if end != "unsubscribe":
        assert not client.is_open
        assert client.sdk.close_code in {0, 3011}
    elif name == "announce join":
        assert client.sdk.state == "connected"
        assert client.sdk.server_side == {}
    else:
        assert [reply["error"]["code"] for reply in client.sdk.replies.values()] == [100]
    stage.assert_nothing_left()
    for channel in (CHANNEL, SECOND):
        roster = observer.sdk.tracks[channel].roster
        assert "join" not in [roster[other] for other in roster if other != observer.sdk.client]


@pytest.mark.parametrize(("name", "when"), STEPS)
def test_hub_left_during_subscribe_ends_at_once(stage: Stage, name: str, when: When) -> None:
    client = stage.client()
    hold = stage.store.hold(name, when)
    stage.do(client.sdk.subscribe, CHANNEL)
    reached(hold)
    leaving = stage.do(stage.hubs[0].__aexit__, None, None, None)
    before = stage.loop.time()
    stage.do(hold.release)

    assert leaving.done()
    assert stage.loop.time() - before < 1
    assert client.sdk.close_code == 3001
    stage.assert_nothing_left()


def test_hub_left_as_somebody_waits_for_a_link_lets_nobody_wait(stage: Stage) -> None:
    refused: list[BrokerError] = []

    async def listen() -> None:
        try:
            async with stage.hubs[0].subscribe(CHANNEL):
                raise AssertionError("subscribed to what has ended")
        except BrokerError as exc:
            refused.append(exc)

    client = stage.client(0, SECOND)
    hold = stage.store.hold("unsubscribe", "request")
    stage.do(client.sdk.unsubscribe, SECOND)
    reached(hold)
    listening = stage.do(listen)  # its link is to be made after that
    before = stage.loop.time()
    leaving = stage.do(stage.hubs[0].__aexit__, None, None, None)

    assert listening.done()
    assert leaving.done()
    assert len(refused) == 1
    assert stage.loop.time() - before < 1


# Deliveries that come early or late.


def test_publication_between_read_and_reply_comes_once(stage: Stage) -> None:
    stage.publish()
    hold = stage.store.hold("history", "answer")
    client = stage.client()
    stage.do(client.sdk.subscribe, CHANNEL)
    reached(hold)
    stage.publish()
    stage.publish()
    stage.do(hold.release)
    stage.publish()

    assert taken(client) == [[2, 3, 4]]
    assert client.sdk.tracks[CHANNEL].segments[0].start == 1


def test_publication_between_read_and_reply_of_recovery_comes_once(stage: Stage) -> None:
    client = stage.client(0, CHANNEL)
    stage.publish()
    stage.do(client.drop)
    stage.publish()
    hold = stage.store.hold("history", "answer")
    stage.do(client.open, stage.ports[0])
    reached(hold)
    stage.publish()
    stage.do(hold.release)
    stage.publish()

    assert taken(client) == [[1, 2, 3, 4]]


def test_delivery_behind_the_read_is_not_repeated(stage: Stage) -> None:
    first = stage.client(0, CHANNEL)
    stage.publish()
    hold = stage.store.hold("deliver")
    stage.publish()
    stage.publish()
    second = stage.client()
    stage.do(second.sdk.subscribe, CHANNEL)
    third = stage.client()
    stage.do(third.sdk.subscribe, CHANNEL)
    assert taken(first) == [[1]]
    assert second.sdk.tracks[CHANNEL].segments[0].start == 3
    stage.do(hold.release)
    stage.publish()

    assert taken(first) == [[1, 2, 3, 4]]
    assert taken(second) == taken(third) == [[4]]


def test_delivery_behind_the_read_of_the_first_subscriber_is_not_repeated(stage: Stage) -> None:
    hold = stage.store.hold("deliver")
    client = stage.client()
    history = stage.store.hold("history", "request")
    stage.do(client.sdk.subscribe, CHANNEL)
    stage.publish()
    stage.publish()
    stage.do(history.release)
    assert client.sdk.tracks[CHANNEL].segments[0].start == 2
    stage.do(hold.release)
    stage.publish()

    assert taken(client) == [[3]]


@pytest.mark.parametrize("replied", ["before", "after"])
def test_reader_behind_another_gets_what_is_on_its_way(stage: Stage, replied: str) -> None:
    """The other one has read more of the stream, and the delivery of that is still to come."""
    deliveries = stage.store.hold("deliver")
    answer = stage.store.hold("history", "answer", calls=1)
    behind = stage.client()
    stage.do(behind.sdk.subscribe, CHANNEL)
    reached(answer)
    stage.publish()
    stage.publish()
    ahead = stage.client()
    stage.do(ahead.sdk.subscribe, CHANNEL)
    assert ahead.sdk.tracks[CHANNEL].segments[0].start == 2
    if replied == "before":
        stage.do(answer.release)
    stage.do(deliveries.release)
    stage.do(answer.release)
    stage.publish(history=False)
    stage.publish()

    assert taken(behind) == [[1, 2, 4]]
    assert taken(ahead) == [[4]]
    assert behind.sdk.tracks[CHANNEL].loose == [3]
    assert behind.sdk.unsubscribed == ahead.sdk.unsubscribed == []


def test_reader_behind_another_is_told_of_what_was_lost(stage: Stage) -> None:
    deliveries = stage.store.hold("deliver")
    answer = stage.store.hold("history", "answer", calls=1)
    behind = stage.client()
    stage.do(behind.sdk.subscribe, CHANNEL)
    stage.publish()
    ahead = stage.client()
    stage.do(ahead.sdk.subscribe, CHANNEL)
    stage.do(answer.release)
    stage.nodes[0].lose(CHANNEL)
    stage.do(deliveries.release)
    stage.do(stage.nodes[0].suspect, None)

    assert behind.sdk.unsubscribed == [(CHANNEL, 2500)]
    assert taken(behind) == [[1]]
    assert ahead.sdk.unsubscribed == []


def test_gap_while_subscribing_disconnects(stage: Stage) -> None:
    stage.client(0, CHANNEL)
    answer = stage.store.hold("history", "answer")
    client = stage.client()
    stage.do(client.sdk.subscribe, CHANNEL)
    reached(answer)
    deliveries = stage.store.hold("deliver")
    stage.publish()
    stage.nodes[0].lose(CHANNEL)
    stage.publish()
    stage.do(deliveries.release)
    stage.do(answer.release)

    assert client.sdk.close_code == 3010


def test_late_delivery_after_the_last_left_harms_nobody(stage: Stage) -> None:
    client = stage.client(0, CHANNEL)
    hold = stage.store.hold("deliver")
    stage.publish()
    stage.do(client.sdk.unsubscribe, CHANNEL)
    stage.publish()
    stage.do(client.sdk.subscribe, CHANNEL)
    stage.do(hold.release)
    stage.publish()

    assert taken(client) == [[1, 2, 3]]


def test_end_of_one_stream_keeps_nothing_from_the_others(stage: Stage) -> None:
    """A transport whose peer has ended raises at the next write, and is not closed yet."""
    clients = [stage.client(0, CHANNEL, SECOND) for _ in range(3)]

    stage.do(clients[0].end)
    stage.publish()
    stage.publish(SECOND)

    assert stage.hubs[0].channels() == {CHANNEL: 2, SECOND: 2}
    for client in clients[1:]:
        assert taken(client) == [[1]]
        assert taken(client, SECOND) == [[2]]
    stage.do(clients[0].drop)


# Links.


@pytest.mark.parametrize("when", ["request", "answer"])
def test_arrival_as_the_last_leaves_is_not_deaf(stage: Stage, when: When) -> None:
    first = stage.client(0, CHANNEL)
    second = stage.client()
    hold = stage.store.hold("unsubscribe", when)
    stage.do(first.sdk.unsubscribe, CHANNEL)
    reached(hold)
    stage.do(second.sdk.subscribe, CHANNEL)
    assert state(second) == "subscribing"
    stage.do(hold.release)
    stage.publish()

    assert taken(second) == [[1]]
    stage.do(second.sdk.unsubscribe, CHANNEL)
    stage.assert_nothing_left()


def test_arrival_in_the_same_moment_as_the_last_leaves_is_not_deaf(stage: Stage) -> None:
    clients = [stage.client(), stage.client()]

    def swap(n: int) -> None:
        clients[n % 2].sdk.unsubscribe(CHANNEL)
        clients[(n + 1) % 2].sdk.subscribe(CHANNEL)

    for n in range(5):
        stage.do(swap, n)
        number = stage.publish()
        assert taken(clients[(n + 1) % 2])[-1][-1] == number
    stage.do(clients[1].sdk.unsubscribe, CHANNEL)
    stage.assert_nothing_left()


def test_link_that_nobody_waits_for_any_more_is_taken_back(stage: Stage) -> None:
    hold = stage.store.hold("subscribe", "request")
    client = stage.client()
    stage.do(client.sdk.subscribe, CHANNEL)
    stage.do(client.drop)
    stage.do(hold.release)

    assert stage.nodes[0].channels == set()


# A broker that fails.


@pytest.mark.parametrize(("name", "when"), STEPS)
def test_broker_error_during_subscribe_disconnects(stage: Stage, name: str, when: When) -> None:
    observer = stage.client(1, CHANNEL)
    client = stage.client()
    hold = stage.store.hold(name, when, calls=1)
    stage.do(client.sdk.subscribe, CHANNEL)
    stage.do(reached(hold).fail, BrokerError("suspending", "broken"))
    if name == "announce join":
        assert client.is_open  # the subscription stands
    else:
        assert client.sdk.close_code == 3004
        stage.assert_nothing_left()
        stage.do(client.open, stage.ports[0])
    assert not client.sdk.waits
    assert state(client) == "subscribed"
    stage.publish()
    assert taken(client) == [[1]]
    assert stage.present() == sorted([observer.sdk.client, client.sdk.client])
    stage.do(client.sdk.unsubscribe, CHANNEL)
    stage.assert_nothing_left()
    assert observer.sdk.tracks[CHANNEL].roster.get(client.sdk.client, "leave") == "leave"


@pytest.mark.parametrize(("name", "when"), STEPS)
def test_broker_error_during_connect_leaves_nothing(stage: Stage, name: str, when: When) -> None:
    stage.granted = [CHANNEL, SECOND]
    hold = stage.store.hold(name, when, calls=1)
    client = stage.client()
    stage.do(reached(hold).fail, BrokerError("suspending", "broken"))

    if name == "announce join":
        assert client.sdk.state == "connected"
        assert set(client.sdk.server_side) == {CHANNEL, SECOND}
        assert stage.present(SECOND) == [client.sdk.client]
    else:
        assert [reply["error"]["code"] for reply in client.sdk.replies.values()] == [100]
    stage.do(client.drop)
    stage.assert_nothing_left()


@pytest.mark.parametrize("end", ["unsubscribe", "drop"])
@pytest.mark.parametrize("when", ["request", "answer"])
@pytest.mark.parametrize("name", ["remove_presence", "announce leave", "unsubscribe"])
def test_broker_error_at_the_end_keeps_nothing_else_from_ending(
    stage: Stage, name: str, when: When, end: str
) -> None:
    observer = stage.client(1, CHANNEL, SECOND)
    client = stage.client(0, CHANNEL, SECOND)
    ended: list[int] = []
    stage.hubs[0].on_disconnect(lambda client, code: ended.append(code))
    hold = stage.store.hold(name, when, calls=1)
    if end == "drop":
        stage.do(client.drop)
    else:
        stage.do(client.sdk.unsubscribe, CHANNEL)
        assert name == "unsubscribe" or client.sdk.waits
    stage.do(reached(hold).fail, BrokerError("suspending", "broken"))
    if end == "unsubscribe":
        stage.do(client.sdk.unsubscribe, SECOND)
        assert not client.sdk.waits
    stage.do(stage.clock.advance, 20)
    stage.advance(61)  # an entry that could not be removed ends by itself

    assert ended == ([3000] if end == "drop" else [])
    assert stage.hubs[0].channels() == {}
    assert stage.present(CHANNEL) == stage.present(SECOND) == [observer.sdk.client]
    rosters = [observer.sdk.tracks[channel].roster for channel in (CHANNEL, SECOND)]
    joined = [roster[client.sdk.client] for roster in rosters].count("join")
    assert joined == (1 if (name, when) == ("announce leave", "request") else 0)
    if name != "unsubscribe":
        assert stage.nodes[0].channels == set()


# Positions.


def lose(stage: Stage, node: int = 0) -> None:
    hold = stage.store.hold("deliver")
    stage.publish()
    assert stage.nodes[node].lose(CHANNEL) == 1
    stage.do(hold.release)


@pytest.mark.parametrize("how", ["check", "suspect", "next"])
def test_lost_publication_is_found_and_recovered(stage: Stage, how: str) -> None:
    client = stage.client(0, CHANNEL)
    stage.publish()
    lose(stage)
    if how == "check":
        stage.advance(85)
    elif how == "suspect":
        stage.do(stage.nodes[0].suspect, [CHANNEL, "stream:unknown"])
    else:
        stage.publish()

    assert client.sdk.unsubscribed == [(CHANNEL, 2500)]
    assert taken(client) == [[1, 2, 3] if how == "next" else [1, 2]]
    stage.publish()
    assert taken(client)[0][-1] == stage.count


def test_lost_publication_of_a_server_side_subscription_disconnects(stage: Stage) -> None:
    stage.granted = [CHANNEL]
    client = stage.client()
    lose(stage)
    stage.do(stage.nodes[0].suspect, None)

    assert client.sdk.close_code == 3010
    stage.assert_nothing_left()


@pytest.mark.parametrize("how", ["check", "suspect", "next"])
def test_lost_publication_is_told_to_subscribers_in_this_process(stage: Stage, how: str) -> None:
    got: list[object] = []

    async def listen() -> None:
        try:
            async with stage.hubs[0].subscribe(CHANNEL) as publications:
                assert isinstance(publications, Listening)
                async for publication in publications:
                    got.append(publication.data)  # noqa: PERF401  the end is an exception
        except PositionLost:
            got.append("lost")

    task = stage.do(listen)
    stage.publish()
    lose(stage)
    if how == "check":
        stage.advance(85)
    elif how == "suspect":
        stage.do(stage.nodes[0].suspect, None)
    else:
        stage.publish()
    task.cancel()
    stage.do(lambda: None)

    assert got == [b"1", "lost"]


def test_listening_counts_no_publication_without_history(stage: Stage) -> None:
    got: list[Publication] = []

    async def listen() -> None:
        async with stage.hubs[0].subscribe(CHANNEL) as publications:
            async for publication in publications:
                got.append(publication)  # noqa: PERF401  one at a time: it never ends

    answer = stage.store.hold("history", "answer")
    task = stage.do(listen)
    stage.publish()
    stage.publish(history=False)
    stage.do(answer.release)
    stage.publish()
    assert not task.done()
    task.cancel()
    stage.do(lambda: None)

    assert [publication.data for publication in got] == [b"1", b"2", b"3"]


def test_new_stream_is_told_to_those_of_the_old_one(stage: Stage) -> None:
    client = stage.client(0, "short")
    stage.publish("short")
    old = client.sdk.tracks["short"].epoch
    stage.advance(6)
    stage.publish("short")

    assert client.sdk.unsubscribed == [("short", 2500)]
    assert client.sdk.tracks["short"].epoch != old
    assert taken(client, "short") == [[1], []]
    stage.publish("short")
    assert taken(client, "short") == [[1], [3]]


def test_new_stream_is_found_by_the_check_of_positions(stage: Stage) -> None:
    client = stage.client(0, "short")
    stage.publish("short")
    stage.advance(85)

    assert ("short", 2500) in client.sdk.unsubscribed
    stage.publish("short")  # in one more, since nobody has used it for longer than it is kept
    stage.publish("short")
    assert taken(client, "short")[-1] == [3]


def test_subscriber_of_a_new_stream_gets_what_has_no_offset(stage: Stage) -> None:
    """Others stand in the old one, until something is published in the new one."""
    old = stage.client(0, "short")
    stage.publish("short")
    stage.advance(6)
    new = stage.client(0, "short")
    assert new.sdk.tracks["short"].joined == 1
    other = stage.client(0, "short")
    assert new.sdk.tracks["short"].roster[other.sdk.client] == "join"
    number = stage.publish("short", history=False)

    assert new.sdk.tracks["short"].loose == [number]
    assert old.sdk.tracks["short"].loose == [number]
    stage.publish("short")
    assert taken(new, "short")[-1] == [3]


# Presence, joins and leaves.


@pytest.mark.parametrize("when", ["request", "answer"])
@pytest.mark.parametrize("name", ["remove_presence", "announce leave"])
@pytest.mark.parametrize("code", [2000, 2500])
def test_new_subscription_outlasts_the_end_of_the_one_before(
    stage: Stage, name: str, when: When, code: int
) -> None:
    """An SDK subscribes again as soon as it is told."""
    observer = stage.client(1, CHANNEL)
    client = stage.client(0, CHANNEL)
    hold = stage.store.hold(name, when, calls=1)
    stage.do(stage.hubs[0].unsubscribe, CHANNEL, client=client.sdk.client, code=code)
    reached(hold)
    stage.do(client.sdk.subscribe, CHANNEL)
    stage.do(hold.release)
    stage.do(client.sdk.subscribe, CHANNEL)

    assert state(client) == "subscribed"
    assert stage.present() == sorted([observer.sdk.client, client.sdk.client])
    assert observer.sdk.tracks[CHANNEL].roster[client.sdk.client] == "join"


@pytest.mark.parametrize("when", ["request", "answer"])
def test_prolonging_brings_nobody_back_and_removes_nobody(stage: Stage, when: When) -> None:
    client = stage.client(0, CHANNEL)
    hold = stage.store.hold("add_presence", when, calls=1)
    stage.advance(26)
    reached(hold)
    stage.do(client.sdk.unsubscribe, CHANNEL)
    stage.do(client.sdk.subscribe, CHANNEL)
    stage.do(hold.release)
    assert stage.present() == [client.sdk.client]

    hold = stage.store.hold("add_presence", when, calls=1)
    stage.advance(26)
    reached(hold)
    stage.do(client.sdk.unsubscribe, CHANNEL)
    stage.do(hold.release)
    assert stage.present() == []


def test_presence_lasts_as_long_as_the_subscription(stage: Stage) -> None:
    client = stage.client(0, CHANNEL)
    stage.advance(130)
    assert stage.present() == [client.sdk.client]
    stage.do(client.drop)
    assert stage.present() == []


def test_position_of_history_of_a_hub_matches_the_store(stage: Stage) -> None:
    stage.publish()
    page = stage.get(stage.hubs[0].history, CHANNEL, since=Position("", 0))

    assert [publication.data for publication in page.publications] == [b"1"]
