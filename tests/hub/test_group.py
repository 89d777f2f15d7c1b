from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubbub import Hub, serve
from hubbub.brokers.base import Event
from hubbub.hub.channel import Channel
from hubbub.hub.group import Group, Tally
from hubbub.hub.outbox import Changes
from hubbub.hub.recovery import follow
from hubbub.hub.subscription import Subscription
from hubbub.hub.wires import Wire, message_wire
from hubbub.model import ChannelOptions, ClientInfo, Limits, Position, Publication
from hubbub.protocol import fossil, json
from hubbub.protocol.commands import SubscribeRequest
from tests.hub.brokers import RemoteBroker
from tests.hub.raw import Dialect, RawClient, command, connected, value
from tests.server.wire import until

HOST = "127.0.0.1"


class Box:
    """An outbox that keeps everything."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.frames: list[bytes] = []
        self.descriptor = -1
        self.write = self.frames.append

    @property
    def publications(self) -> list[Any]:
        replies = [reply for frame in self.frames for reply in json.decode_replies(frame)]
        return [reply.push.pub for reply in replies if reply.push and reply.push.pub]


# Payloads as they are: what a group writes can be read without a socket.
WIRE = message_wire(binary=False)


def subscription(
    channel: Channel[Any], number: int, *, positioned: bool, delta: bool = False
) -> tuple[Subscription, Box]:
    box = Box(WIRE)
    session: Any = SimpleNamespace(
        outbox=box, info=ClientInfo("", str(number)), node=SimpleNamespace(limits=Limits())
    )
    made = Subscription(session, "room", channel, {}, server_side=False)
    made.positioned, made.delta = positioned, delta
    return made, box


steps = st.lists(
    st.one_of(
        st.just(("publish", 0)),
        st.just(("deliver", 0)),
        st.just(("drop", 0)),
        st.just(("repeat", 0)),
        st.just(("flush", 0)),
        st.just(("compare", 0)),
        st.just(("restart", 0)),
        st.tuples(st.sampled_from(["register", "live", "join", "leave"]), st.integers(0, 2)),
    ),
    max_size=40,
)


@given(steps=steps, delta=st.booleans())
@settings(deadline=None, max_examples=300)
def test_positioned_subscriber_gets_every_offset_once_or_is_told(
    steps: list[tuple[str, int]], delta: bool
) -> None:
    """A stream, a delivery that lags behind and may lose, subscribers that come and go."""
    channel: Channel[Any] = Channel("room", Any, ChannelOptions(history=100, delta=delta))
    group = Group(
        "room",
        channel,
        changes=Changes(),
        tally=Tally(),
        mark=lambda group: None,
        unreadable=lambda each: None,
    )
    epoch, stream, sent = "a", list[Publication](), list[Publication]()
    delivered: Publication | None = None
    boxes: dict[Subscription, tuple[Box, str, int]] = {}
    waiting: dict[int, tuple[Subscription, Box]] = {}
    live: dict[int, Subscription] = {}
    lost: set[Subscription] = set()

    def deliver(publication: Publication) -> None:
        for each in group.deliver(publication):
            lose(each)

    def lose(each: Subscription) -> None:
        assert each not in lost
        lost.add(each)
        for number in [n for n, other in live.items() if other is each]:
            del live[number]

    for kind, number in steps:
        if kind == "publish":
            data = b'{"text":"%b","n":%d}' % (b"x" * 40, len(stream))
            publication = Publication(data, delta=True, offset=len(stream) + 1, epoch=epoch)
            stream.append(publication)
            sent.append(publication)
        elif kind == "deliver" and sent:
            delivered = sent.pop(0)
            deliver(delivered)
        elif kind == "drop" and sent:
            sent.pop(0)
        elif kind == "repeat" and delivered is not None and delivered.epoch == epoch:
            deliver(delivered)
        elif kind == "flush":
            group.flush()
        elif kind == "compare":
            for each in group.compare(Position(epoch, len(stream))):
                lose(each)
        elif kind == "restart":
            epoch, stream = epoch + "a", []
            sent.clear()
        elif kind == "leave" and number in live:
            group.leave(live.pop(number))
        if kind in ("register", "join") and number not in waiting and number not in live:
            waiting[number] = subscription(channel, number, positioned=True, delta=delta)
            group.register(waiting[number][0])
        if kind in ("live", "join") and number in waiting:
            made, box = waiting.pop(number)
            top = Position(epoch, len(stream))
            following = follow(top, made.buffer or ())
            if following is None:
                group.leave(made)
                continue
            group.flush()
            made.epoch = top.epoch
            made.position = following[-1].offset if following else top.offset
            boxes[made] = (box, top.epoch, top.offset)
            group.replay(made, following)
            group.go_live(made)
            live[number] = made
    while sent:
        deliver(sent.pop(0))
    group.flush()
    for each in group.compare(Position(epoch, len(stream))):
        lose(each)
    group.flush()

    for made, (box, of_epoch, start) in boxes.items():
        found = box.publications
        offsets = [each.offset for each in found]
        assert offsets == list(range(start + 1, start + 1 + len(offsets)))
        if made in live.values():
            assert of_epoch == epoch
            assert start + len(offsets) == len(stream)
        if of_epoch == epoch:
            assert contents(found, delta) == [stream[offset - 1].data for offset in offsets]


def contents(publications: list[Any], delta: bool) -> list[bytes]:
    """Read payloads as a client does; patches one after the other."""
    if not delta:
        return [bytes(each.data) for each in publications]
    base, payloads = b"", []
    for each in publications:
        data = json.unquote(each.data)
        base = fossil.apply(base, data) if each.delta else data
        payloads.append(base)
    return payloads


def test_everything_of_one_flush_is_one_frame_for_all_of_a_kind() -> None:
    channel: Channel[Any] = Channel("room", Any, ChannelOptions())
    marked: list[Group] = []
    group = Group(
        "room",
        channel,
        changes=Changes(),
        tally=Tally(),
        mark=marked.append,
        unreadable=lambda each: None,
    )
    boxes = []
    for number in range(3):
        made, box = subscription(channel, number, positioned=False)
        group.register(made)
        group.go_live(made)
        boxes.append(box)
    for number in range(3):
        group.deliver(Publication(b"%d" % number))

    assert marked == [group]
    assert [box.frames for box in boxes] == [[], [], []]

    group.flush()

    assert [len(box.frames) for box in boxes] == [1, 1, 1]
    assert boxes[0].frames[0] is boxes[1].frames[0] is boxes[2].frames[0]
    assert [bytes(each.data) for each in boxes[0].publications] == [b"0", b"1", b"2"]


def test_pending_is_bounded() -> None:
    channel: Channel[Any] = Channel("room", Any, ChannelOptions())
    group = Group(
        "room",
        channel,
        changes=Changes(),
        tally=Tally(),
        mark=lambda group: None,
        unreadable=lambda each: None,
    )
    made, box = subscription(channel, 0, positioned=False)
    group.register(made)
    group.go_live(made)
    for _ in range(10):
        group.deliver(Publication(b'"%b"' % (b"x" * 30_000)))

    assert len(box.frames) >= 3


def test_unreadable_payload_is_told_and_leaves_other_formats_alone() -> None:
    channel: Channel[Any] = Channel("blobs", bytes, ChannelOptions())
    told: list[Subscription] = []
    group = Group(
        "room",
        channel,
        changes=Changes(),
        tally=Tally(),
        mark=lambda group: None,
        unreadable=told.extend,
    )
    made, box = subscription(channel, 0, positioned=False)
    group.register(made)
    group.go_live(made)
    group.deliver(Publication(b"\xff"))
    group.flush()

    assert told == [made]
    assert box.frames == []


# With a broker that takes its time.


async def hold_subscribe(
    broker: RemoteBroker, client: RawClient, method: str = "history", **fields: Any
) -> None:
    """Begin to subscribe, and return when the broker has been asked."""
    broker.hold(method)
    await client.send(command(99, SubscribeRequest(channel="room", **fields)))
    await broker.entered(method)


@pytest.fixture
def broker() -> RemoteBroker:
    return RemoteBroker()


@pytest.fixture
def hub(broker: RemoteBroker) -> Hub:
    hub = Hub(broker)
    hub.channel("room", history=100, presence=True, join_leave="asked")
    return hub


async def test_publication_during_subscribe_follows_its_reply(
    hub: Hub, broker: RemoteBroker, codec: Dialect
) -> None:
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await hub.publish("room", 1)
        await hold_subscribe(broker, client)
        await hub.publish("room", 2)
        await hub.publish("room", "passing", history=False)
        await hub.publish("room", 3)
        broker.release("history")
        result = (await client.reply(99)).subscribe

        assert result is not None
        assert result.offset == 1
        assert result.publications == ()
        assert await client.next_values(3) == [2, "passing", 3]
        await hub.publish("room", 4)
        assert await client.next_values(1) == [4]
        assert client.received[1].subscribe is not None


async def test_publication_that_was_read_and_delivered_comes_once(
    hub: Hub, broker: RemoteBroker, codec: Dialect
) -> None:
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await hold_subscribe(broker, client, "add_presence", recover=True)
        await hub.publish("room", 1)
        broker.release("add_presence")
        await hub.publish("room", 2)
        result = (await client.reply(99)).subscribe
        await hub.publish("room", 3)

        assert result is not None
        assert result.recovered
        recovered = [value(each.data) for each in result.publications]
        assert recovered + await client.next_values(3 - len(recovered)) == [1, 2, 3]
        assert await client.pushes() == []


async def test_gap_during_subscribe_disconnects(
    hub: Hub, broker: RemoteBroker, codec: Dialect
) -> None:
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await hold_subscribe(broker, client)
        broker.memory.passes = lambda event: False
        await hub.publish("room", 1)
        broker.memory.passes = lambda event: True
        await hub.publish("room", 2)
        broker.release("history")

        assert await client.closed() == (3010, "insufficient state")
        await until(lambda: not hub.channels())
        assert await hub.presence("room") == {}


async def test_too_much_during_subscribe_disconnects(broker: RemoteBroker, codec: Dialect) -> None:
    hub = Hub(broker, limits=Limits(backlog=1000))
    hub.channel("room", history=10)
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await hold_subscribe(broker, client)
        for _ in range(3):
            await hub.publish("room", "x" * 500)
        broker.release("history")

        assert await client.closed() == (3008, "slow")


async def test_subscriber_that_is_ahead_of_the_delivery_gets_nothing_twice(
    hub: Hub, broker: RemoteBroker, codec: Dialect
) -> None:
    late: list[Event] = []
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec) as early,
        connected(server, codec) as client,
    ):
        await early.subscribe("room")

        def keep(event: Event) -> bool:
            late.append(event)
            return False

        broker.memory.passes = keep
        await hub.publish("room", 1)
        await hub.publish("room", 2)
        result = await client.subscribe("room", recover=True)

        assert [value(each.data) for each in result.publications] == [1, 2]

        receiver = broker.memory.receiver
        assert receiver is not None
        broker.memory.passes = lambda event: True
        for event in late:
            receiver.deliver("room", event)
        await hub.publish("room", 3)

        assert await early.next_values(3) == [1, 2, 3]
        assert await client.next_values(1) == [3]
        assert await client.pushes() == []


async def test_gap_beyond_one_that_is_ahead_is_told_to_both(
    hub: Hub, broker: RemoteBroker, codec: Dialect
) -> None:
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec) as early,
        connected(server, codec) as client,
    ):
        await early.subscribe("room")
        broker.memory.passes = lambda event: False
        await hub.publish("room", 1)
        await client.subscribe("room")
        await hub.publish("room", 2)
        broker.memory.passes = lambda event: True
        await hub.publish("room", 3)
        for each in (early, client):
            push = await each.next_push()

            assert push.unsubscribe is not None
            assert push.unsubscribe.code == 2500


async def test_unsubscribed_by_server_while_subscribing_is_refused(
    hub: Hub, broker: RemoteBroker, codec: Dialect
) -> None:
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await hold_subscribe(broker, client)
        await hub.unsubscribe("room", client=client.connection_id)
        broker.release("history")
        reply = await client.reply(99)

        assert reply.error is not None
        assert reply.error.code == 103
        assert await client.pushes() == []
        assert await hub.presence("room") == {}
        assert await client.subscribe("room")


async def test_client_that_goes_while_subscribing_leaves_nothing(
    hub: Hub, broker: RemoteBroker, codec: Dialect
) -> None:
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec) as watcher,
    ):
        await watcher.subscribe("room", join_leave=True)
        await watcher.next_push()
        for method in ("add_presence", "history", "announce"):
            async with connected(server, codec) as other:
                await hold_subscribe(broker, other, method)
                other.socket.transport.abort()
                await until(lambda: len(hub.clients()) == 1)
                broker.release(method)
            await until(lambda: hub.channels() == {"room": 1})
        await until(lambda: broker.calls.count("remove_presence") == 3)
        # Only the last had got as far as a join; its leave comes behind.
        joined, left = await watcher.next_push(), await watcher.next_push()

        assert joined.join is not None
        assert left.leave is not None
        assert set(await hub.presence("room")) == {watcher.connection_id}
        assert await watcher.pushes() == []


async def test_last_subscriber_that_goes_is_told_to_the_broker(
    hub: Hub, broker: RemoteBroker, codec: Dialect
) -> None:
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.subscribe("room")
        await client.unsubscribe("room")
        await until(lambda: "unsubscribe" in broker.calls)
        # Coming back while the broker is told: it is subscribed again.
        broker.hold("unsubscribe")
        await client.subscribe("room")
        await client.unsubscribe("room")
        await broker.entered("unsubscribe")
        await client.send(command(99, SubscribeRequest(channel="room")))
        broker.release("unsubscribe")
        assert (await client.reply(99)).subscribe is not None
        await hub.publish("room", 1)

        assert await client.next_values(1) == [1]
