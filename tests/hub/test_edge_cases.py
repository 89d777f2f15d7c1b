"""The edge cases of the client protocol, section 19: a test a row, named by its number."""

import asyncio
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from websockets.exceptions import InvalidStatus

from hubbub import (
    Client,
    CommandError,
    ErrorCode,
    Hub,
    Limits,
    Tokens,
    User,
    serve,
)
from hubbub.auth.tokens import sign
from hubbub.brokers.base import Event
from hubbub.model import Publication
from hubbub.protocol.commands import (
    Command,
    ConnectRequest,
    FilterNode,
    HistoryRequest,
    PingRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    Request,
    RPCRequest,
    SendRequest,
    SubRefreshRequest,
    SubscribeRequest,
    UnsubscribeRequest,
)
from hubbub.protocol.values import EMPTY, StreamPosition
from hubbub.testing import FakeClock
from tests.hub.brokers import LossyBroker
from tests.hub.gate import Gate
from tests.hub.raw import CODECS, TIMEOUT, Dialect, RawClient, command, connected, raw, value
from tests.hub.stalled import StalledClient
from tests.server.wire import until
from tests.timing import MS

HOST = "127.0.0.1"
SECRET = "an edge case is a case like any other"

BAD_REQUEST = (3501, "bad request")
INVALID_TOKEN = (3500, "invalid token")


def token(**claims: Any) -> str:
    return sign(claims, SECRET)


class CountingClock(FakeClock):
    """Counts the timers that are set, to see that a session has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.set = 0

    def call_later(self, delay: float, callback: Callable[[], object]) -> Any:
        self.set += 1
        return super().call_later(delay, callback)


async def reach_ping(client: RawClient, clock: FakeClock, interval: int = 25) -> None:
    """Move the time up to the next ping, and not a second further."""
    seen = client.pings
    for _ in range(interval + 1):
        await client.sync()
        if client.pings > seen:
            return
        clock.advance(1)
    raise AssertionError("no ping")


REQUESTS: list[Request] = [
    SubscribeRequest(channel="room"),
    UnsubscribeRequest(channel="room"),
    PublishRequest(channel="room", data=raw(1)),
    PresenceRequest(channel="room"),
    PresenceStatsRequest(channel="room"),
    HistoryRequest(channel="room"),
    PingRequest(),
    SendRequest(data=raw(1)),
    RPCRequest(method="m"),
    RefreshRequest(token="t"),
    SubRefreshRequest(channel="room", token="t"),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
async def test_row_01_command_before_connect(codec: Dialect, request_: Request) -> None:
    async with serve(Hub(), HOST, 0) as server, RawClient(server, codec) as client:
        await client.send(command(1, request_))

        assert await client.closed() == BAD_REQUEST


@pytest.mark.parametrize("frames", ["one frame", "two frames"])
async def test_row_02_commands_behind_connect_wait_for_it(codec: Dialect, frames: str) -> None:
    hub, gate = Hub(), Gate()
    hub.channel("room", history=1)

    @hub.on_connect
    async def connect(client: Client) -> str:
        await gate()
        return "42"

    async with serve(hub, HOST, 0) as server, RawClient(server, codec) as client:
        commands = [
            command(1, ConnectRequest()),
            command(2, SubscribeRequest(channel="room")),
            command(3, SubscribeRequest(channel="nowhere")),
        ]
        if frames == "one frame":
            await client.send(*commands)
        else:
            for each in commands:
                await client.send(each)
        await gate.reached()
        gate.open()
        await client.reply(3)
        first, second, third = client.received

        assert first.connect is not None
        assert second.subscribe is not None
        assert third.error is not None


@pytest.mark.parametrize("suspends", [False, True])
async def test_row_03_connect_refused_leaves_the_rest_unanswered(
    codec: Dialect, suspends: bool
) -> None:
    clock = FakeClock()
    hub = Hub(clock=clock)
    hub.channel("room")

    def refuse(client: Client) -> None:
        raise CommandError(ErrorCode.TOKEN_EXPIRED)

    async def refuse_later(client: Client) -> None:
        await asyncio.sleep(0)
        refuse(client)

    hub.on_connect(refuse_later if suspends else refuse)

    async with serve(hub, HOST, 0) as server, RawClient(server, codec) as client:
        await client.send(
            command(1, ConnectRequest()),
            command(2, SubscribeRequest(channel="room")),
            command(3, RPCRequest(method="m")),
        )
        reply = await client.reply(1)
        # Nor does anything else disturb it: not another connect, not what is no command.
        await client.send(command(4, ConnectRequest()))
        await client.send_frame(b"}")
        await client.socket.ping()
        clock.advance(4)
        async with asyncio.timeout(TIMEOUT):
            await (await client.socket.ping())

        assert reply.error is not None
        assert reply.error.code == 109
        assert len(client.received) == 1

        clock.advance(1.1)

        assert (await client.closed())[0] == 1006
        assert len(client.received) == 1


async def test_row_04_second_connect(codec: Dialect) -> None:
    async with serve(Hub(), HOST, 0) as server, connected(server, codec) as client:
        await client.send(command(9, ConnectRequest()))

        assert await client.closed() == BAD_REQUEST


async def test_row_05_no_connect_in_time(codec: Dialect) -> None:
    clock = CountingClock()
    async with serve(Hub(clock=clock), HOST, 0) as server, RawClient(server, codec) as client:
        await until(lambda: clock.set > 0)
        clock.advance(14.9)
        async with asyncio.timeout(TIMEOUT):
            await (await client.socket.ping())
        clock.advance(0.2)

        assert await client.closed() == (3502, "stale")


async def test_row_05_connect_that_takes_too_long(codec: Dialect) -> None:
    clock, gate = FakeClock(), Gate()
    hub = Hub(clock=clock)

    @hub.on_connect
    async def connect(client: Client) -> None:
        await gate()

    async with serve(hub, HOST, 0) as server, RawClient(server, codec) as client:
        await client.send(command(1, ConnectRequest()))
        await gate.reached()
        clock.advance(15.1)

        assert await client.closed() == (3502, "stale")
        gate.open()


MALFORMED = {
    "json": [
        b"",
        b"\n",
        b" ",
        b"{",
        b"}",
        b"[]",
        b"null",
        b"1",
        b'"connect"',
        b'{"id":1}\n\n{"id":2}',
        b'\n{"id":1}',
        b'{"id":1,"ping":{}}\n\n',
        b'{"id":-1,"ping":{}}',
        b'{"id":4294967296,"ping":{}}',
        b'{"id":1,"subscribe":{"channel":1}}',
        b'{"id":1,"rpc":{"data":}}',
        b'{"id":1,"rpc":{"data":"\xff"}}',
        b"[" * 60_000,
    ],
    "protobuf": [
        b"",
        b"\x05\x08",
        b"\x01",
        b"\x02\xff\xff",
        b"\xff" * 11,
        b"\x80",
        b"\xff\xff\xff\xff\x0f",
        b"\x04\x2a\x02\x0a\xff",
    ],
}


@pytest.mark.parametrize(
    ("format_", "frame"), [(name, each) for name, frames in MALFORMED.items() for each in frames]
)
async def test_row_06_malformed_frame(format_: str, frame: bytes) -> None:
    dialect = CODECS[format_]
    async with serve(Hub(), HOST, 0) as server:
        async with RawClient(server, dialect) as early:
            await early.send_frame(frame)

            assert await early.closed() == BAD_REQUEST

        async with connected(server, dialect) as client:
            await client.send_frame(frame)

            assert await client.closed() == BAD_REQUEST


def sized(codec: Dialect, size: int) -> bytes:
    """Make a connect command of exactly so many bytes."""
    length = size - 64
    while True:
        frame = codec.encode_command(command(1, ConnectRequest(name="n" * length)))
        if len(frame) == size:
            return frame
        length += size - len(frame)


async def test_row_07_largest_frame_is_taken(codec: Dialect) -> None:
    async with serve(Hub(), HOST, 0) as server, RawClient(server, codec) as client:
        await client.send_frame(sized(codec, 65_536))

        assert (await client.reply(1)).connect is not None


@pytest.mark.parametrize("size", [65_537, 200_000])
async def test_row_07_frame_too_large(codec: Dialect, size: int) -> None:
    async with serve(Hub(), HOST, 0) as server:
        async with RawClient(server, codec) as early:
            await early.send_frame(sized(codec, size))

            assert (await early.closed())[0] == 1009

        async with connected(server, codec) as client:
            await client.send_frame(sized(codec, size))

            assert (await client.closed())[0] == 1009


async def test_row_08_command_without_an_id_is_a_pong(codec: Dialect, clock: FakeClock) -> None:
    hub = Hub(clock=clock)
    called: list[object] = []
    hub.rpc("m")(called.append)
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        client.answers = False
        await reach_ping(client, clock)
        await client.send(command(0, RPCRequest(method="m")))
        await client.sync()
        clock.advance(10.1)
        await client.sync()

        assert not called
        assert len(client.received) == client.number() - 1

        await client.send(command(0, SubscribeRequest(channel="room")))

        assert await client.closed() == BAD_REQUEST


async def test_row_08_send_without_an_id_is_no_pong(codec: Dialect) -> None:
    hub = Hub()
    messages: list[Any] = []

    @hub.on_message
    def take(client: Client, message: dict[str, int]) -> None:
        messages.append(message)

    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.send(command(0, SendRequest(data=raw({"n": 1}))))
        # One that does not fit is dropped without a word, which would pass for a ping.
        await client.send(command(0, SendRequest(data=raw("n"))))
        await client.sync()

        assert messages == [{"n": 1}]
        assert len(client.received) == 2
        assert client.pings == 0


async def test_row_09_pong_without_a_ping(codec: Dialect) -> None:
    async with serve(Hub(), HOST, 0) as server, connected(server, codec) as client:
        await client.pong()

        assert await client.closed() == BAD_REQUEST


async def test_row_09_second_pong_for_a_ping(codec: Dialect, clock: FakeClock) -> None:
    async with serve(Hub(clock=clock), HOST, 0) as server, connected(server, codec) as client:
        await reach_ping(client, clock)
        await client.sync()
        await client.pong()

        assert await client.closed() == BAD_REQUEST


async def test_row_09_pongs_that_are_asked_for(codec: Dialect, clock: FakeClock) -> None:
    async with serve(Hub(clock=clock), HOST, 0) as server, connected(server, codec) as client:
        for _ in range(3):
            await reach_ping(client, clock)

        assert client.pings == 3


async def test_row_10_no_pong(codec: Dialect, clock: FakeClock) -> None:
    async with serve(Hub(clock=clock), HOST, 0) as server, connected(server, codec) as client:
        client.answers = False
        await reach_ping(client, clock)
        clock.advance(8.9)
        await client.sync()  # other commands do not count
        clock.advance(1.2)

        assert await client.closed() == (3012, "no pong")


@pytest.mark.parametrize("kind", ["empty", "unknown"])
async def test_row_11_command_of_no_kind(codec: Dialect, kind: str) -> None:
    frame = codec.encode_command(Command(id=5))
    if kind == "unknown":
        frame = b"\x05\x08\x05\xfa\x06\x00" if codec.BINARY else b'{"id":5,"dance":{}}'
    async with serve(Hub(), HOST, 0) as server, connected(server, codec) as client:
        await client.send_frame(frame)

        assert await client.closed() == BAD_REQUEST


async def test_row_12_duplicate_subscribe(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room")
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.subscribe("room")

        assert await client.refused(SubscribeRequest(channel="room")) == 105

        await client.unsubscribe("room")

        assert await client.subscribe("room")


async def test_row_12_duplicate_of_one_in_flight(codec: Dialect) -> None:
    hub, gate = Hub(), Gate()
    channel = hub.channel("room")

    @channel.on_subscribe
    async def may_subscribe(client: Client) -> None:
        await gate()

    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.send(
            command(8, SubscribeRequest(channel="room")),
            command(9, SubscribeRequest(channel="room")),
        )
        await gate.reached()
        gate.open()
        first, second = await client.reply(8), await client.reply(9)

        assert first.subscribe is not None
        assert second.error is not None
        assert second.error.code == 105


async def test_row_12_duplicate_of_a_server_side_one(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room")
    hub.on_connect(lambda client: User("42", channels=["room"]))
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        assert await client.refused(SubscribeRequest(channel="room")) == 105


@pytest.mark.parametrize("channel", ["room", "nowhere"])
async def test_row_13_unsubscribe_of_unknown_channel(codec: Dialect, channel: str) -> None:
    hub = Hub()
    hub.channel("room")
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        reply = await client.command(UnsubscribeRequest(channel=channel))

        assert reply.error is None
        assert reply.unsubscribe is not None


async def test_row_14_unsubscribe_while_subscribe_in_flight(codec: Dialect) -> None:
    hub, gate = Hub(), Gate()
    channel = hub.channel("room", presence=True, join_leave=True, history=10)

    @channel.on_subscribe
    async def may_subscribe(client: Client) -> None:
        if client.user != "watcher":
            await gate()

    hub.on_connect(lambda client, request: request.name)
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec, name="watcher") as watcher,
        connected(server, codec, name="other") as client,
    ):
        await watcher.subscribe("room")
        assert (await watcher.next_push()).join is not None
        await client.send(
            command(8, SubscribeRequest(channel="room")),
            command(9, UnsubscribeRequest(channel="room")),
        )
        await gate.reached()
        gate.open()

        assert (await client.reply(8)).subscribe is not None
        assert (await client.reply(9)).unsubscribe is not None
        assert set(await hub.presence("room")) == {watcher.connection_id}
        joined, left = await watcher.pushes()
        assert joined.join is not None
        assert left.leave is not None
        await hub.publish("room", 1)
        assert [push for push in await client.pushes() if push.pub is not None] == []


async def test_row_14_unsubscribe_waits_no_longer_than_5_s(
    codec: Dialect, clock: FakeClock
) -> None:
    hub, gate = Hub(clock=clock), Gate()
    channel = hub.channel("room", presence=True)

    @channel.on_subscribe
    async def may_subscribe(client: Client) -> None:
        await gate()

    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.send(
            command(8, SubscribeRequest(channel="room")),
            command(9, UnsubscribeRequest(channel="room")),
        )
        await gate.reached()
        await asyncio.sleep(0)
        clock.advance(5.1)

        assert await client.closed() == (3004, "internal server error")

        gate.open()
        await until(lambda: not hub.channels())

        assert await hub.presence("room") == {}


async def test_row_15_channel_names(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("ünï:{name}", unicode=True)
    hub.channel("{name:path}")
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        assert await client.subscribe("a" * 255)
        assert await client.refused(SubscribeRequest(channel="a" * 256)) == 107
        assert await client.refused(SubscribeRequest(channel="räum")) == 107
        assert await client.refused(PublishRequest(channel="räum", data=raw(1))) == 107
        assert await client.refused(HistoryRequest(channel="a" * 256)) == 107
        assert await client.subscribe("ünï:çode")
        assert await client.refused(SubscribeRequest(channel="ünï:" + "ç" * 125)) == 107
        assert await client.subscribe("ünï:" + "ç" * 124)


async def test_row_16_too_many_channels(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room:{number:int}")
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        replies = await client.ask(
            *(SubscribeRequest(channel=f"room:{number}") for number in range(129))
        )

        assert all(reply.subscribe is not None for reply in replies[:128])
        assert replies[128].error is not None
        assert replies[128].error.code == 106

        await client.unsubscribe("room:0")
        assert await client.subscribe("room:128")


@pytest.mark.parametrize("count", [128, 129])
async def test_row_16_too_many_server_side_channels(codec: Dialect, count: int) -> None:
    hub = Hub()
    hub.channel("room:{number:int}")
    hub.on_connect(
        lambda client: User("42", channels=[f"room:{number}" for number in range(count)])
    )
    async with serve(hub, HOST, 0) as server, RawClient(server, codec) as client:
        await client.send(command(1, ConnectRequest()))
        if count == 128:
            reply = await client.reply(1)

            assert reply.connect is not None
            assert len(reply.connect.subs) == 128
            assert await client.refused(SubscribeRequest(channel="room:128")) == 106
        else:
            assert await client.closed() == (3505, "channel limit")
            assert hub.clients() == []


@pytest.mark.parametrize(
    "request_",
    [
        SubscribeRequest(channel="nowhere"),
        PublishRequest(channel="nowhere", data=raw(1)),
        PresenceRequest(channel="nowhere"),
        PresenceStatsRequest(channel="nowhere"),
        HistoryRequest(channel="nowhere"),
        SubscribeRequest(channel="$nowhere"),
    ],
    ids=lambda request: type(request).__name__,
)
async def test_row_17_unknown_channel(codec: Dialect, request_: Request) -> None:
    hub = Hub()
    hub.channel("room")
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        assert await client.refused(request_) == 102


async def test_row_18_rpc_without_any_method(codec: Dialect) -> None:
    async with serve(Hub(), HOST, 0) as server, connected(server, codec) as client:
        assert await client.refused(RPCRequest(method="m")) == 108


async def test_row_18_rpc_of_an_unknown_method(codec: Dialect) -> None:
    hub = Hub()
    hub.rpc("known")(lambda client: None)
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        assert await client.refused(RPCRequest(method="m")) == 104
        assert (await client.command(RPCRequest(method="known"))).rpc is not None


async def test_row_19_send_without_a_handler(codec: Dialect) -> None:
    async with serve(Hub(), HOST, 0) as server, connected(server, codec) as client:
        await client.send(command(0, SendRequest(data=raw(1))))

        assert await client.closed() == (3508, "not available")


async def test_row_20_features_that_are_off(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room")
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.subscribe("room")

        assert await client.refused(PresenceRequest(channel="room")) == 108
        assert await client.refused(PresenceStatsRequest(channel="room")) == 108
        assert await client.refused(HistoryRequest(channel="room")) == 108


async def test_row_21_history_of_another_epoch(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room", history=10)
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        epoch = (await client.subscribe("room")).epoch
        await hub.publish("room", 1)
        foreign = HistoryRequest(channel="room", since=StreamPosition(0, "foreign"), limit=9)

        assert await client.refused(foreign) == 112

        for known in (epoch, ""):
            reply = await client.command(
                HistoryRequest(channel="room", since=StreamPosition(0, known), limit=9)
            )
            assert reply.history is not None
            assert [each.offset for each in reply.history.publications] == [1]

        nowhere = HistoryRequest(
            channel="room", since=StreamPosition(0, epoch), limit=9, reverse=True
        )
        assert await client.refused(nowhere) == 107


def hub_with_tokens(clock: FakeClock, **options: Any) -> Hub:
    hub = Hub(tokens=Tokens(secret=SECRET, clock=clock), clock=clock, **options)
    hub.channel("room")
    return hub


async def test_row_22_token_expired(codec: Dialect, clock: FakeClock) -> None:
    now = clock.time()
    async with serve(hub_with_tokens(clock), HOST, 0) as server:
        async with RawClient(server, codec) as early:
            assert await early.refused(ConnectRequest(token=token(sub="42", exp=now - 1))) == 109

        async with connected(server, codec, token=token(sub="42", exp=now + 60)) as client:
            expired = token(sub="42", channel="room", exp=now - 1)
            assert await client.refused(SubscribeRequest(channel="room", token=expired)) == 109

            valid = token(sub="42", channel="room", exp=now + 60)
            await client.subscribe("room", token=valid)
            assert await client.refused(SubRefreshRequest(channel="room", token=expired)) == 109

            await client.send(command(9, RefreshRequest(token=token(sub="42", exp=now - 1))))
            assert await client.closed() == (3005, "connection expired")


@pytest.mark.parametrize("malformed", ["", "x", "a.b.c", token(sub="42", channel="room")[:-2]])
async def test_row_23_token_malformed(codec: Dialect, clock: FakeClock, malformed: str) -> None:
    malformed = malformed or sign(
        {"sub": "42", "channel": "room"}, "another secret of 32 bytes or so"
    )
    now = clock.time()
    valid = token(sub="42", exp=now + 60)
    async with serve(hub_with_tokens(clock), HOST, 0) as server:
        async with RawClient(server, codec) as early:
            await early.send(command(1, ConnectRequest(token=malformed)))
            assert await early.closed() == INVALID_TOKEN

        async with connected(server, codec, token=valid) as client:
            assert await client.refused(SubscribeRequest(channel="room", token=malformed)) == 103
            await client.subscribe("room", token=token(sub="42", channel="room", exp=now + 60))
            await client.send(command(9, SubRefreshRequest(channel="room", token=malformed)))
            assert await client.closed() == INVALID_TOKEN

        async with connected(server, codec, token=valid) as client:
            await client.send(command(9, RefreshRequest(token=malformed)))
            assert await client.closed() == INVALID_TOKEN


FOREIGN: dict[str, Request] = {
    "subscribe, other user": SubscribeRequest(
        channel="other", token=token(sub="43", channel="other")
    ),
    "subscribe, no user": SubscribeRequest(channel="other", token=token(channel="other")),
    "subscribe, other channel": SubscribeRequest(
        channel="other", token=token(sub="42", channel="room")
    ),
    "subscribe, other client": SubscribeRequest(
        channel="other", token=token(sub="42", channel="other", client="c")
    ),
    "refresh, other user": RefreshRequest(token=token(sub="43")),
    "sub_refresh, other user": SubRefreshRequest(
        channel="room", token=token(sub="43", channel="room")
    ),
    "sub_refresh, other channel": SubRefreshRequest(
        channel="room", token=token(sub="42", channel="other")
    ),
    "sub_refresh, other client": SubRefreshRequest(
        channel="room", token=token(sub="42", channel="room", client="c")
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
async def test_row_24_token_for_somebody_else(codec: Dialect, clock: FakeClock, case: str) -> None:
    hub = hub_with_tokens(clock)
    hub.channel("other")
    now = clock.time()
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec, token=token(sub="42", exp=now + 60)) as client,
    ):
        await client.subscribe("room", token=token(sub="42", channel="room", exp=now + 60))
        await client.send(command(9, FOREIGN[case]))

        assert await client.closed() == INVALID_TOKEN


async def test_row_24_subscription_token_is_no_connection_token(
    codec: Dialect, clock: FakeClock
) -> None:
    async with serve(hub_with_tokens(clock), HOST, 0) as server, RawClient(server, codec) as client:
        await client.send(command(1, ConnectRequest(token=token(sub="42", channel="room"))))

        assert await client.closed() == INVALID_TOKEN


async def test_row_25_no_token_and_no_anonymous_users(codec: Dialect, clock: FakeClock) -> None:
    async with serve(hub_with_tokens(clock), HOST, 0) as server, RawClient(server, codec) as client:
        await client.send(command(1, ConnectRequest()))

        assert await client.closed() == BAD_REQUEST


async def test_row_26_outgoing_queue_over_its_bound() -> None:
    size, count = 60_000, 400
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    hub = Hub(limits=Limits(write_timeout=60.0))
    hub.channel("room")

    @hub.on_disconnect
    def disconnect(client: Client, code: int) -> None:
        if not ended.done():
            ended.set_result(code)

    async with (
        serve(hub, HOST, 0) as server,
        connected(server) as reader,
        StalledClient(server) as stalled,
    ):
        await reader.subscribe("room")
        await stalled.send(ConnectRequest(), SubscribeRequest(channel="room"))
        await stalled.read()
        await stalled.read()
        tracemalloc.start()
        try:
            for first in range(0, count, 5):
                for number in range(first, first + 5):
                    await hub.publish("room", [number, "x" * size])
                # It gets everything, as if nobody was slow.
                numbers = [each[0] for each in await reader.next_values(5)]
                assert numbers == list(range(first, first + 5))
                reader.received.clear()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

        assert ended.done()
        assert ended.result() == 3008
        # A backlog of 1 MiB, and little beside it, of the 24 MB that were published.
        assert peak < 5_000_000
        assert hub.channels() == {"room": 1}
        frames, code = await stalled.read_to_close()
        assert code == 3008
        assert frames < count * 2 // 3


async def test_row_27_write_that_stalls() -> None:
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    hub = Hub(limits=Limits(write_timeout=100 * MS, backlog=1 << 26))
    hub.channel("room")

    @hub.on_disconnect
    def disconnect(client: Client, code: int) -> None:
        if not ended.done():
            ended.set_result(code)

    async with (
        serve(hub, HOST, 0) as server,
        connected(server) as reader,
        StalledClient(server) as stalled,
    ):
        await reader.subscribe("room")
        await stalled.send(ConnectRequest(), SubscribeRequest(channel="room"))
        await stalled.read()
        await stalled.read()
        for number in range(200):
            await hub.publish("room", [number, "x" * 60_000])
        await reader.next_values(200)
        async with asyncio.timeout(TIMEOUT):
            assert await ended == 3009

        assert hub.channels() == {"room": 1}
        await hub.publish("room", "on")
        assert await reader.next_values(1) == ["on"]


async def test_row_28_binary_publication_reaches_a_json_client() -> None:
    hub = Hub()
    hub.channel("blobs", bytes, publish="anyone")
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, CODECS["json"]) as json_client,
        connected(server, CODECS["protobuf"]) as client,
        connected(server, CODECS["protobuf"]) as publisher,
    ):
        await json_client.subscribe("blobs")
        await client.subscribe("blobs")
        await hub.publish("blobs", b'{"json":"too"}')
        assert await json_client.next_values(1) == [{"json": "too"}]
        reply = await publisher.command(
            PublishRequest(channel="blobs", data=msgspec.Raw(b"\xff\x00"))
        )

        assert reply.publish is not None
        assert await json_client.closed() == (3506, "inappropriate protocol")
        assert [bytes((await client.next_publication()).data) for _ in range(2)] == [
            b'{"json":"too"}',
            b"\xff\x00",
        ]


def third(event: Event) -> bool:
    return not (isinstance(event, Publication) and event.offset == 3)


async def test_row_29_gap_ends_a_client_side_subscription(codec: Dialect) -> None:
    broker = LossyBroker()
    broker.passes = third
    hub = Hub(broker)
    hub.channel("room", history=10)
    hub.channel("loose", history=10, recovery=False, positioning=False)
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec) as client,
        connected(server, codec) as loose,
    ):
        await client.subscribe("room")
        await loose.subscribe("loose")
        for number in range(1, 5):
            await hub.publish("room", number)
            await hub.publish("loose", number)

        assert await client.next_values(2) == [1, 2]
        ended = (await client.next_push()).unsubscribe
        assert ended is not None
        assert (ended.code, ended.reason) == (2500, "insufficient state")
        # It comes back with its position, and has everything.
        result = await client.subscribe("room", recover=True, offset=2)
        assert result.recovered
        assert [value(each.data) for each in result.publications] == [3, 4]
        await hub.publish("room", 5)
        assert await client.next_values(1) == [5]
        assert await loose.next_values(3) == [1, 2, 4]


async def test_row_29_gap_ends_the_session_of_a_server_side_one(codec: Dialect) -> None:
    broker = LossyBroker()
    broker.passes = third
    hub = Hub(broker)
    hub.channel("room", history=10)
    hub.on_connect(lambda client: User("42", channels=["room"]))
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        for number in range(1, 5):
            await hub.publish("room", number)

        assert await client.next_values(2) == [1, 2]
        assert await client.closed() == (3010, "insufficient state")


async def test_row_30_node_shutdown(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room")
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec) as client,
        RawClient(server, codec) as early,
    ):
        await client.subscribe("room")
        await hub.publish("room", "last")
        hub.stop()

        # What was published before arrives before.
        assert await client.next_values(1) == ["last"]
        assert await client.closed() == (3001, "shutdown")
        assert await early.closed() == (3001, "shutdown")

        # New ones are refused before they are any.
        with pytest.raises(InvalidStatus) as caught:
            await RawClient(server, codec).__aenter__()
        assert caught.value.response.status_code == 503


async def test_row_31_client_disappears(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room", presence=True, join_leave=True)
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec) as watcher,
        connected(server, codec) as client,
    ):
        await watcher.subscribe("room")
        await client.subscribe("room")
        client.socket.transport.abort()
        joins = [(await watcher.next_push()).join for _ in range(2)]
        left = (await watcher.next_push()).leave

        assert all(join is not None for join in joins)
        assert left is not None
        assert left.info.client == client.connection_id
        assert set(await hub.presence("room")) == {watcher.connection_id}
        assert hub.channels() == {"room": 1}
        assert [each.id for each in hub.clients()] == [watcher.connection_id]


async def test_row_32_disconnect_while_subscribe_in_flight(codec: Dialect) -> None:
    hub, gate = Hub(), Gate()
    channel = hub.channel("room", presence=True, join_leave=True, history=10)
    gone = asyncio.Event()

    @channel.on_subscribe
    async def may_subscribe(client: Client) -> None:
        if client.user != "watcher":
            await gate()

    hub.on_connect(lambda client, request: request.name)
    hub.on_disconnect(lambda client: gone.set())
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec, name="watcher") as watcher,
        connected(server, codec, name="other") as client,
    ):
        await watcher.subscribe("room")
        assert (await watcher.next_push()).join is not None
        await client.send(command(9, SubscribeRequest(channel="room")))
        await gate.reached()
        client.socket.transport.abort()
        async with asyncio.timeout(TIMEOUT):
            await gone.wait()
        gate.open()
        await watcher.sync()

        assert await watcher.pushes() == []
        assert set(await hub.presence("room")) == {watcher.connection_id}
        assert hub.channels() == {"room": 1}


async def test_row_33_user_with_several_connections(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room", presence=True)
    hub.on_connect(lambda client: "42")
    async with serve(hub, HOST, 0) as server, connected(server, codec) as first:
        await first.subscribe("room")
        async with connected(server, codec) as second:
            await second.subscribe("room")
            stats = await hub.presence_stats("room")

            assert first.connection_id != second.connection_id
            assert set(await hub.presence("room")) == {first.connection_id, second.connection_id}
            assert (stats.clients, stats.users) == (2, 1)

            await second.unsubscribe("room")

            assert set(await hub.presence("room")) == {first.connection_id}
            await hub.publish("room", 1)
            assert await first.next_values(1) == [1]
            assert await second.pushes() == []


async def test_row_34_recover_from_the_beginning(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room", history=3)
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        for published in range(1, 5):
            position = await hub.publish("room", published)
            result = await client.subscribe("room", recover=True)
            found = [value(each.data) for each in result.publications]
            await client.unsubscribe("room")

            assert result.was_recovering
            assert result.epoch == position.epoch
            if published <= 3:
                assert result.recovered
                assert found == list(range(1, published + 1))
                assert result.offset == 0
            else:
                assert not result.recovered
                assert found == []
                assert result.offset == 4


async def test_row_34_recover_from_the_beginning_of_nothing(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room", history=3)
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        result = await client.subscribe("room", recover=True)

        assert result.recovered
        assert result.publications == ()


async def test_row_35_recover_from_beyond_the_top(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room", history=3)
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        position = await hub.publish("room", 1)
        result = await client.subscribe("room", recover=True, offset=2, epoch=position.epoch)

        assert result.was_recovering
        assert not result.recovered
        assert (result.offset, result.publications) == (1, ())


async def test_row_36_subscription_token_without_expiry(codec: Dialect, clock: FakeClock) -> None:
    hub = hub_with_tokens(clock)
    hub.channel("other")
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec, token=token(sub="42")) as client,
    ):
        endless = await client.subscribe("room", token=token(sub="42", channel="room"))
        ending = await client.subscribe(
            "other", token=token(sub="42", channel="other", exp=clock.time() + 60)
        )

        assert (endless.expires, endless.ttl) == (False, 0)
        assert (ending.expires, ending.ttl) == (True, 60)


@pytest.mark.parametrize("data", [0, 1.5, "text", "", [], [1, None], True, False, {}, None])
async def test_row_37_payloads_of_all_kinds(codec: Dialect, data: Any) -> None:
    hub = Hub()
    hub.channel("room", publish="anyone", history=1)
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.subscribe("room")
        await client.publish("room", data)
        await hub.publish("room", data)

        assert await client.next_values(2) == [data, data]


async def test_row_37_payload_that_is_absent(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room", publish="anyone")
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        assert await client.refused(PublishRequest(channel="room", data=EMPTY)) == 107


async def test_row_38_filter_and_delta_that_are_not_permitted(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room", history=5)
    hub.channel("filtered", history=5, tags_filter=True, delta=True)
    leaf = FilterNode(key="n", cmp="eq", val="1")
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        assert await client.refused(SubscribeRequest(channel="room", tf=leaf)) == 107
        assert not (await client.subscribe("room", delta="fossil")).delta
        malformed = FilterNode(op="nand", nodes=(leaf,))
        assert await client.refused(SubscribeRequest(channel="filtered", tf=malformed)) == 107
        # Both together: without patches, whose chain a filter would break.
        assert not (await client.subscribe("filtered", tf=leaf, delta="fossil")).delta
        assert hub.channels() == {"room": 1, "filtered": 1}

        await client.send(command(99, SubscribeRequest(channel="other", delta="bsdiff")))
        assert await client.closed() == BAD_REQUEST


async def test_row_39_own_join_comes_after_the_reply(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room", join_leave=True, presence=True)
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.subscribe("room")
        await client.unsubscribe("room")
        await client.sync()
        _, subscribed, joined, *rest = client.received

        assert subscribed.subscribe is not None
        assert joined.push is not None
        assert joined.push.join is not None
        assert joined.push.join.info.client == client.connection_id
        # The own leave is not delivered.
        assert all(each.push is None for each in rest)


async def test_row_40_subscribe_and_unsubscribe_without_waiting(codec: Dialect) -> None:
    hub = Hub()
    channel = hub.channel("room", presence=True, join_leave=True, history=5)

    @channel.on_subscribe
    async def may_subscribe(client: Client) -> None:
        await asyncio.sleep(0)

    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec) as watcher,
        connected(server, codec) as client,
    ):
        await watcher.subscribe("room")
        for last in (False, True):
            requests: list[Request] = [
                SubscribeRequest(channel="room"),
                UnsubscribeRequest(channel="room"),
            ] * 10
            if last:
                requests.append(SubscribeRequest(channel="room"))
            for reply in await client.ask(*requests):
                assert reply.error is None
            await watcher.sync()

            assert (await hub.presence_stats("room")).clients == 1 + last

        events = [push for push in await watcher.pushes() if push.pub is None]
        assert sum(push.join is not None for push in events) == 22
        assert sum(push.leave is not None for push in events) == 20
