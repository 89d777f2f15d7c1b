import asyncio
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from hubbub import (
    Client,
    CommandError,
    ConfigError,
    Disconnect,
    Grant,
    Hub,
    PermissionDenied,
    Tokens,
    User,
    serve,
)
from hubbub.auth.tokens import sign
from hubbub.protocol import fossil, json
from hubbub.protocol.commands import (
    FilterNode,
    HistoryRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    Request,
    SubRefreshRequest,
    SubscribeRequest,
    UnsubscribeRequest,
)
from hubbub.protocol.values import Publication, StreamPosition
from hubbub.testing import FakeClock
from tests.hub.raw import CODECS, Dialect, command, connected, raw, value
from tests.server.wire import until

HOST = "127.0.0.1"
SECRET = "no channel without its key, if you please"


def token(**claims: Any) -> str:
    return sign(claims, SECRET)


def payload(data: bytes) -> msgspec.Raw:
    return msgspec.Raw(data)


def named(**options: Any) -> Hub:
    """Make a hub whose users are called as their SDKs are."""
    hub = Hub(**options)
    hub.on_connect(lambda client, request: request.name)
    return hub


# Who may.

ACCESSES = ["nobody", "subscribers", "users", "anyone"]


@pytest.mark.parametrize("access", ACCESSES)
@pytest.mark.parametrize("name", ["", "42"])
async def test_access_to_a_channel(codec: Dialect, access: Any, name: str) -> None:
    hub = named()
    hub.channel("open", history=5, presence=True, publish=access, read_history=access,
                read_presence=access)  # fmt: skip
    hub.channel("shut", subscribe=access)
    requests: list[Request] = [
        PublishRequest(channel="open", data=raw(1)),
        HistoryRequest(channel="open"),
        PresenceRequest(channel="open"),
        PresenceStatsRequest(channel="open"),
    ]
    async with serve(hub, HOST, 0) as server, connected(server, codec, name=name) as client:
        for subscribed in (False, True):
            if subscribed:
                await client.subscribe("open")
            may = (
                access == "anyone"
                or (access == "users" and name != "")
                or (access == "subscribers" and subscribed)
            )
            for request in requests:
                reply = await client.command(request)
                assert (reply.error and reply.error.code) == (None if may else 103)
        reply = await client.command(SubscribeRequest(channel="shut"))
        may = access == "anyone" or (access == "users" and name != "")
        assert (reply.error and reply.error.code) == (None if may else 103)


@pytest.mark.parametrize("suspends", [False, True])
async def test_hook_decides_who_subscribes(codec: Dialect, suspends: bool) -> None:
    hub = named()
    channel = hub.channel("chat:{room}:{number:int}", presence=True)
    seen: list[Any] = []

    def decide(client: Client, room: str, number: int, channel: str) -> Grant | None:
        seen.append((client.user, room, number, channel))
        match room:
            case "secret":
                raise PermissionDenied("members only")
            case "away":
                raise Disconnect(4001, "go away")
            case "custom":
                raise CommandError(1000, "custom")
            case "seat":
                return Grant(info=b'{"seat":\n1}', data=b'{"welcome":\n1}')
        return None

    async def decide_later(client: Client, room: str, number: int, channel: str) -> Grant | None:
        await asyncio.sleep(0)
        return decide(client, room, number, channel)

    channel.on_subscribe(decide_later if suspends else decide)
    async with serve(hub, HOST, 0) as server, connected(server, codec, name="42") as client:
        await client.subscribe("chat:open:1")
        denied = (await client.command(SubscribeRequest(channel="chat:secret:1"))).error
        custom = (await client.command(SubscribeRequest(channel="chat:custom:1"))).error
        seated = await client.subscribe("chat:seat:007")
        (member,) = (await hub.presence("chat:seat:007")).values()
        present = await client.command(PresenceRequest(channel="chat:seat:007"))

        assert seen[0] == ("42", "open", 1, "chat:open:1")
        assert seen[-1] == ("42", "seat", 7, "chat:seat:007")
        assert denied is not None
        assert (denied.code, denied.message) == (103, "members only")
        assert custom is not None
        assert custom.code == 1000
        assert value(seated.data) == {"welcome": 1}
        assert member.client == client.connection_id
        assert present.presence is not None
        assert value(present.presence.presence[client.connection_id].chan_info) == {"seat": 1}
        assert hub.channels() == {"chat:open:1": 1, "chat:seat:007": 1}

        await client.send(command(9, SubscribeRequest(channel="chat:away:1")))
        assert await client.closed() == (4001, "go away")


@pytest.mark.parametrize("returned", [42, RuntimeError("broken")])
async def test_hook_that_fails_is_logged(
    codec: Dialect, returned: Any, caplog: pytest.LogCaptureFixture
) -> None:
    hub = Hub()

    @hub.channel("room").on_subscribe
    def decide(client: Client) -> Any:
        if isinstance(returned, Exception):
            raise returned
        return returned

    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        reply = await client.command(SubscribeRequest(channel="room"))

        assert reply.error is not None
        assert (reply.error.code, reply.error.temporary) == (100, True)
        assert hub.channels() == {}
    assert "command subscribe failed" in caplog.text
    caplog.clear()


@pytest.mark.parametrize("suspends", [False, True])
async def test_hook_is_told_of_the_end_of_subscriptions(codec: Dialect, suspends: bool) -> None:
    hub = named()
    channel = hub.channel("chat:{room}", presence=True)
    ends: list[tuple[str, str, int, str]] = []

    def told(client: Client, room: str, code: int, reason: str) -> None:
        ends.append((client.user, room, code, reason))

    async def told_later(client: Client, room: str, code: int, reason: str) -> None:
        await asyncio.sleep(0)
        told(client, room, code, reason)

    channel.on_unsubscribe(told_later if suspends else told)
    async with serve(hub, HOST, 0) as server, connected(server, codec, name="42") as client:
        for room in ("a", "b", "c"):
            await client.subscribe(f"chat:{room}")
        await client.unsubscribe("chat:a")
        await hub.unsubscribe("chat:b", user="42")
        await client.sync()
        await client.socket.close()
        await until(lambda: len(ends) == 3)

        assert ends == [
            ("42", "a", 0, "client unsubscribed"),
            ("42", "b", 2000, "server unsubscribe"),
            ("42", "c", 1, "client disconnected"),
        ]


async def test_hook_that_fails_at_the_end_leaves_nothing_undone(
    codec: Dialect, caplog: pytest.LogCaptureFixture
) -> None:
    hub = Hub()
    hub.channel("room", presence=True).on_unsubscribe(lambda client: 1 // 0)
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.subscribe("room")
        await client.unsubscribe("room")

        assert await hub.presence("room") == {}
    assert "on_unsubscribe failed" in caplog.text
    caplog.clear()


async def test_private_channel_needs_a_token(codec: Dialect, clock: FakeClock) -> None:
    hub = Hub(tokens=Tokens(secret=SECRET, clock=clock), clock=clock)
    called: list[object] = []
    hub.channel("room").on_subscribe(called.append)
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec, token=token(sub="42")) as client,
    ):
        assert await client.refused(SubscribeRequest(channel="$room")) == 103
        await client.subscribe("$room", token=token(sub="42", channel="$room"))
        assert called == []
        # Another channel, in spite of the same declaration.
        await hub.publish("room", 1)
        await hub.publish("$room", 2)
        assert await client.next_values(1) == [2]


async def test_user_limited_channel(codec: Dialect) -> None:
    hub = named()
    hub.channel("dialog#{users}", user_limited=True, subscribe="anyone")
    hub.channel("open#{users}", subscribe="anyone")
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec, name="42") as client,
        connected(server, codec, name="") as anonymous,
    ):
        await client.subscribe("dialog#42")
        await client.subscribe("dialog#41,42")
        await client.subscribe("open#7")
        for channel in ("dialog#4", "dialog#421", "dialog#41,4 2", "dialog#42#7"):
            assert await client.refused(SubscribeRequest(channel=channel)) == 103
        for channel in ("dialog#42", "dialog#,42"):
            assert await anonymous.refused(SubscribeRequest(channel=channel)) == 103


async def test_token_decides_and_overrides(codec: Dialect, clock: FakeClock) -> None:
    hub = Hub(tokens=Tokens(secret=SECRET, clock=clock), clock=clock)
    hub.channel("room", history=5, presence=True, recovery="asked", positioning="asked",
                subscribe="nobody")  # fmt: skip

    def claims(**override: bool) -> str:
        flags = {name: {"value": flag} for name, flag in override.items()}
        return token(sub="42", channel="room", info={"seat": 1}, data=[1], override=flags)

    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec, token=token(sub="42")) as client,
    ):
        plain = await client.subscribe("room", token=claims())
        assert (plain.recoverable, plain.positioned, plain.epoch) == (False, False, "")
        assert value(plain.data) == [1]
        assert [each.chan_info for each in (await hub.presence("room")).values()] == [b'{"seat":1}']
        await client.unsubscribe("room")
        forced = await client.subscribe("room", token=claims(force_recovery=True))
        assert (forced.recoverable, forced.positioned) == (True, True)
        await client.unsubscribe("room")
        positioned = await client.subscribe("room", token=claims(force_positioning=True))
        assert (positioned.recoverable, positioned.positioned) == (False, True)
        await client.unsubscribe("room")
        await client.subscribe("room", token=claims(presence=False))
        assert await hub.presence("room") == {}
        await client.unsubscribe("room")
        overridden = claims(join_leave=True, force_push_join_leave=True)
        await client.subscribe("room", token=overridden)
        assert (await client.next_push()).join is not None


# Expiry.


async def test_subscription_that_is_not_refreshed_ends(codec: Dialect, clock: FakeClock) -> None:
    hub = Hub(tokens=Tokens(secret=SECRET, clock=clock), clock=clock)
    hub.channel("room", presence=True)
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec, token=token(sub="42")) as client,
    ):
        await client.subscribe("room", token=token(sub="42", channel="room", exp=clock.time() + 5))
        for _ in range(29):
            clock.advance(1)
            assert await client.pushes() == []
        clock.advance(1.2)
        push = (await client.next_push()).unsubscribe

        assert push is not None
        assert (push.code, push.reason) == (2501, "subscription expired")
        assert hub.channels() == {}
        assert await hub.presence("room") == {}


@pytest.mark.parametrize("channel", ["room", ""])
async def test_subscription_that_is_refreshed_goes_on(
    codec: Dialect, clock: FakeClock, channel: str
) -> None:
    hub = Hub(tokens=Tokens(secret=SECRET, clock=clock), clock=clock)
    hub.channel("room")
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec, token=token(sub="42")) as client,
    ):
        await client.subscribe("room", token=token(sub="42", channel="room", exp=clock.time() + 5))
        # centrifuge-python sends no channel.
        fresh = token(sub="42", channel="room", exp=clock.time() + 60)
        reply = await client.command(SubRefreshRequest(channel=channel, token=fresh))
        assert reply.sub_refresh is not None
        assert (reply.sub_refresh.expires, reply.sub_refresh.ttl) == (True, 60)
        for _ in range(40):
            clock.advance(1)
            await client.sync()
        endless = token(sub="42", channel="room")
        reply = await client.command(SubRefreshRequest(channel=channel, token=endless))
        assert reply.sub_refresh is not None
        assert not reply.sub_refresh.expires
        for _ in range(60):
            clock.advance(1)
            await client.sync()

        assert hub.channels() == {"room": 1}


async def test_sub_refresh_that_cannot_be(codec: Dialect, clock: FakeClock) -> None:
    hub = Hub(tokens=Tokens(secret=SECRET, clock=clock), clock=clock)
    hub.channel("{name}")
    now = clock.time()
    valid = token(sub="42", channel="room", exp=now + 9)
    connection = token(sub="42", channels=["server"])
    async with serve(hub, HOST, 0) as server:
        async with connected(server, codec, token=connection) as client:
            assert await client.refused(SubRefreshRequest(channel="room", token=valid)) == 103
            assert await client.refused(SubRefreshRequest(channel="room", type=1)) == 108
            assert await client.refused(SubRefreshRequest(channel="room")) == 107
            await client.subscribe("room", token=valid)
            over = token(sub="42", channel="room", expire_at=now - 1)
            assert await client.refused(SubRefreshRequest(channel="room", token=over)) == 110
            await client.send(command(9, SubRefreshRequest()))
            assert await client.closed() == (3501, "bad request")
        async with connected(server, codec, token=connection) as client:
            of_server = token(sub="42", channel="server", exp=now + 9)
            await client.send(command(9, SubRefreshRequest(channel="server", token=of_server)))
            assert await client.closed() == (3501, "bad request")


async def test_grant_that_expires_is_the_servers_to_prolong(
    codec: Dialect, clock: FakeClock
) -> None:
    hub = Hub(clock=clock)
    hub.channel("room").on_subscribe(lambda client: Grant(expires_at=clock.time() + 5))
    hub.channel("over").on_subscribe(lambda client: Grant(expires_at=clock.time()))
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        assert await client.refused(SubscribeRequest(channel="over")) == 110
        result = await client.subscribe("room")
        assert (result.expires, result.ttl) == (False, 0)
        clock.advance(5.2)
        push = (await client.next_push()).unsubscribe
        assert push is not None
        assert push.code == 2501


async def test_server_side_subscription_that_expires_ends_the_session(
    codec: Dialect, clock: FakeClock
) -> None:
    hub = Hub(clock=clock)
    hub.channel("room")
    grants = {"room": Grant(expires_at=clock.time() + 5)}
    hub.on_connect(lambda client: User("42", channels=grants))
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        clock.advance(5.2)

        assert await client.closed() == (3006, "subscription expired")


# What it gets.


async def test_recovery_and_positioning_for_those_that_ask(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("asked", history=5, recovery="asked", positioning="asked")
    hub.channel("never", history=5, recovery=False, positioning=False)
    hub.channel("always", history=5)
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await hub.broadcast(["asked", "never", "always"], 1)

        async def flags(channel: str, **fields: Any) -> tuple[bool, bool, bool, int]:
            result = await client.subscribe(channel, **fields)
            await client.unsubscribe(channel)
            assert bool(result.epoch) == result.positioned
            return result.recoverable, result.positioned, result.was_recovering, result.offset

        assert await flags("asked") == (False, False, False, 0)
        assert await flags("asked", positioned=True) == (False, True, False, 1)
        assert await flags("asked", recoverable=True) == (True, True, False, 1)
        assert await flags("asked", recover=True) == (True, True, True, 0)
        assert await flags("never", positioned=True, recoverable=True, recover=True) == (
            False,
            False,
            False,
            0,
        )
        assert await flags("always") == (True, True, False, 1)


async def test_unrecovered_is_an_error_for_those_that_ask(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room", history=5, presence=True)
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await hub.publish("room", 1)
        gone = SubscribeRequest(channel="room", recover=True, epoch="gone", offset=1, flag=3)

        assert await client.refused(gone) == 112
        assert hub.channels() == {}
        assert await hub.presence("room") == {}
        assert (await client.subscribe("room", recover=True, flag=3)).recovered
        await client.unsubscribe("room")
        assert not (await client.subscribe("room", recover=True, epoch="gone", flag=1)).recovered


async def test_cache_mode_gives_the_newest(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("cache", history=3, recovery="cache")
    hub.channel("auto", history=3, recovery="cache", auto_recover=True)
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:

        async def recover(channel: str, **fields: Any) -> tuple[bool, bool, list[Any]]:
            result = await client.subscribe(channel, **fields)
            await client.unsubscribe(channel)
            found = [value(each.data) for each in result.publications]
            return result.was_recovering, result.recovered, found

        assert await recover("auto") == (True, False, [])
        position = (await hub.broadcast(["cache", "auto"], 1))[0]
        await hub.broadcast(["cache", "auto"], 2)

        assert await recover("cache") == (False, False, [])
        assert await recover("cache", recover=True) == (True, True, [2])
        assert await recover("cache", recover=True, offset=1, epoch=position.epoch) == (
            True,
            True,
            [2],
        )
        assert await recover("cache", recover=True, offset=2, epoch=position.epoch) == (
            True,
            True,
            [],
        )
        assert await recover("cache", recover=True, offset=9, epoch="gone") == (True, True, [2])
        assert await recover("auto") == (True, True, [2])
        await hub.remove_history("cache")
        assert await recover("cache", recover=True, offset=1, epoch=position.epoch) == (
            True,
            False,
            [],
        )


async def test_joins_and_leaves_for_those_that_may_see_them(codec: Dialect) -> None:
    hub = named()
    hub.channel("asked", join_leave="asked", presence=True)
    hub.channel("hidden", join_leave="asked", presence=True, read_presence="nobody")
    hub.channel("none")
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec, name="a") as asking,
        connected(server, codec, name="b") as other,
    ):
        for channel in ("asked", "hidden", "none"):
            await asking.subscribe(channel, join_leave=True)
            await other.subscribe(channel)
            await other.unsubscribe(channel)

        events = await asking.pushes()
        assert [push.channel for push in events] == ["asked"] * 3
        own, joined, left = events
        assert own.join is not None
        assert own.join.info.client == asking.connection_id
        assert joined.join is not None
        assert left.leave is not None
        assert joined.join.info == left.leave.info
        assert joined.join.info.user == "b"
        assert await other.pushes() == []


async def test_tags_filter(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room", history=10, tags_filter=True)
    even = FilterNode(key="n", cmp="in", vals=("2", "4"))
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec) as client,
        connected(server, codec) as everything,
    ):
        await client.subscribe("room", tf=even)
        await everything.subscribe("room")
        for number in range(1, 6):
            await hub.publish("room", number, tags={"n": str(number)})

        assert await client.next_values(2) == [2, 4]
        assert await everything.next_values(5) == [1, 2, 3, 4, 5]
        # Filtered ones are no gap, and not among those that are recovered.
        await client.unsubscribe("room")
        result = await client.subscribe("room", tf=even, recover=True, offset=1)
        assert result.recovered
        assert [value(each.data) for each in result.publications] == [2, 4]
        assert await client.pushes() == []


def contents(codec: Dialect, publications: list[Publication]) -> list[bytes]:
    """Read payloads as a client with delta on does."""
    base, payloads = b"", []
    for each in publications:
        data = bytes(each.data) if codec.BINARY else json.unquote(each.data)
        base = fossil.apply(base, data) if each.delta else data
        payloads.append(base)
    return payloads


async def test_delta(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room", history=10, delta=True)
    messages = [{"text": "wörter " * 40, "number": number} for number in range(8)]
    encoded = [msgspec.json.encode(message) for message in messages]
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec) as client,
        connected(server, codec) as plain,
        connected(server, codec) as late,
    ):
        assert (await client.subscribe("room", delta="fossil")).delta
        assert not (await plain.subscribe("room")).delta
        for message in messages[:4]:
            await hub.publish("room", message)
        found = [await client.next_publication() for _ in range(4)]

        assert [each.delta for each in found] == [False, True, True, True]
        assert contents(codec, found) == encoded[:4]
        assert await plain.next_values(4) == messages[:4]

        # Who comes later begins with a whole one, the others go on.
        await late.subscribe("room", delta="fossil")
        for message in messages[4:6]:
            await hub.publish("room", message)
        found += [await client.next_publication() for _ in range(2)]
        of_late = [await late.next_publication() for _ in range(2)]
        assert [each.delta for each in found[4:]] == [True, True]
        assert [each.delta for each in of_late] == [False, True]
        assert contents(codec, found) == encoded[:6]
        assert contents(codec, of_late) == encoded[4:6]

        # What was missed, and what follows it.
        await late.unsubscribe("room")
        result = await late.subscribe("room", delta="fossil", recover=True, offset=2)
        await hub.publish("room", messages[6], delta=False)
        await hub.publish("room", "short")
        recovered = [*result.publications, *[await late.next_publication() for _ in range(2)]]
        assert not recovered[0].delta
        assert contents(codec, recovered) == [*encoded[2:7], b'"short"']
        found += [await client.next_publication() for _ in range(2)]
        assert contents(codec, found) == [*encoded[:7], b'"short"']
        assert not found[6].delta


async def test_history_of_a_channel_with_delta_is_whole(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room", history=10, delta=True)
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.subscribe("room", delta="fossil")
        for number in range(3):
            await hub.publish("room", ["x" * 100, number])
        reply = await client.command(
            HistoryRequest(channel="room", limit=-1, since=StreamPosition(1))
        )

        assert reply.history is not None
        assert [value(each.data)[1] for each in reply.history.publications] == [1, 2]
        assert not any(each.delta for each in reply.history.publications)


async def test_subscriptions_of_other_kinds_are_refused(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room", publish="anyone")
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        for kind, code in ((1, 103), (2, 103), (3, 103), (4, 108)):
            assert await client.refused(SubscribeRequest(channel="room", type=kind)) == code
        assert await client.refused(PublishRequest(channel="room", data=raw(1), type=1)) == 103


@pytest.mark.parametrize(
    "request_",
    [
        SubscribeRequest(),
        UnsubscribeRequest(),
        PublishRequest(data=raw(1)),
        HistoryRequest(),
        PresenceRequest(),
        PresenceStatsRequest(),
    ],
    ids=lambda request: type(request).__name__,
)
async def test_command_without_a_channel(codec: Dialect, request_: Any) -> None:
    async with serve(Hub(), HOST, 0) as server, connected(server, codec) as client:
        await client.send(command(9, request_))

        assert await client.closed() == (3501, "bad request")


# What clients publish.


class Struct(msgspec.Struct):
    text: str
    size: int = 0


@dataclass
class Data:
    text: str
    size: int = 0


class Typed(TypedDict):
    text: str
    size: int


class Model(pydantic.BaseModel):
    text: str
    size: int = 0


@pytest.mark.parametrize("type_", [Struct, Data, Typed, Model])
@pytest.mark.parametrize("hooked", [False, True])
async def test_typed_message(codec: Dialect, type_: Any, hooked: bool) -> None:
    hub = Hub()
    channel = hub.channel("room", type_, publish="anyone")
    seen: list[Any] = []
    if hooked:

        @channel.on_publish
        def moderate(client: Client, message: Any) -> None:
            seen.append(message)

    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.subscribe("room")
        await client.publish("room", {"text": "hi", "size": 1})
        bad = PublishRequest(channel="room", data=raw({"text": "hi", "size": "large"}))
        error = (await client.command(bad)).error

        assert error is not None
        assert error.code == 107
        assert "$.size" in error.message
        assert "large" not in error.message
        assert await client.next_values(1) == [{"text": "hi", "size": 1}]
        if hooked and type_ is not Typed:
            assert seen == [type_(text="hi", size=1)]
        message = {"text": "ho", "size": 2} if type_ is Typed else type_(text="ho", size=2)
        await hub.publish("room", message)
        publication = await client.next_publication()
        assert value(publication.data) == {"text": "ho", "size": 2}


@pytest.mark.parametrize("suspends", [False, True])
async def test_hook_moderates_what_is_published(codec: Dialect, suspends: bool) -> None:
    hub = named()
    channel = hub.channel("chat:{room}", history=5)

    def moderate(client: Client, message: Any, room: str) -> Any:
        if message == "spam":
            raise PermissionDenied("no spam")
        return None if message == "pass" else [client.user, room, message]

    async def moderate_later(client: Client, message: Any, room: str) -> Any:
        await asyncio.sleep(0)
        return moderate(client, message, room)

    channel.on_publish(moderate_later if suspends else moderate)
    async with serve(hub, HOST, 0) as server, connected(server, codec, name="42") as client:
        await client.subscribe("chat:a")
        await client.publish("chat:a", "hi")
        await client.publish("chat:a", "pass")
        refused = await client.refused(PublishRequest(channel="chat:a", data=raw("spam")))
        await hub.publish("chat:a", "spam")  # the server is not asked

        assert refused == 103
        first, second, third = [await client.next_publication() for _ in range(3)]
        assert value(first.data) == ["42", "a", "hi"]
        assert value(second.data) == "pass"
        assert value(third.data) == "spam"
        assert first.info is not None
        assert (first.info.user, first.info.client) == ("42", client.connection_id)
        assert third.info is None
        assert first.offset == 1


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("access", [None, "nobody", "users", "anyone"])
async def test_option_stands_beside_the_hook(access: Any, hooked: bool) -> None:
    hub = named()
    channel = hub.channel("room", publish=access)
    asked: list[str] = []
    if hooked:
        channel.on_publish(lambda client, message: asked.append(client.user))
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, name="42") as client,
        connected(server, name="") as anonymous,
    ):
        replies = [
            await each.command(PublishRequest(channel="room", data=raw(1)))
            for each in (client, anonymous)
        ]
        expected = {
            None: [hooked, hooked],
            "nobody": [False, False],
            "users": [True, False],
            "anyone": [True, True],
        }[access]

        assert [reply.error is None for reply in replies] == expected
        allowed = [name for name, may in zip(["42", ""], expected, strict=True) if may]
        assert asked == (allowed if hooked else [])


@pytest.mark.parametrize("type_", [Any, Struct])
@pytest.mark.parametrize("hooked", [False, True])
async def test_json_of_several_lines_reaches_json_clients_on_one(type_: Any, hooked: bool) -> None:
    hub = Hub()
    channel = hub.channel("room", type_, publish="anyone", history=5)
    if hooked:
        channel.on_publish(lambda client, message: None)
    data = b'{\n  "text": "hi",\r\n  "more": [\n1]\n}\n'
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, CODECS["json"]) as reader,
        connected(server, CODECS["protobuf"]) as publisher,
    ):
        await reader.subscribe("room")
        reply = await publisher.command(PublishRequest(channel="room", data=payload(data)))

        assert reply.error is None
        assert await reader.next_values(1) == [{"text": "hi", "more": [1]}]


@pytest.mark.parametrize("type_", [Any, Struct])
@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize(
    "data", [b'{"text":"hi","more":"\xff"}', b'{"text":"hi"', b'{"text":"hi"}}', b"\0"]
)
async def test_what_is_no_json_is_refused_from_protobuf_clients(
    type_: Any, hooked: bool, data: bytes
) -> None:
    hub = Hub()
    channel = hub.channel("room", type_, publish="anyone")
    if hooked:
        channel.on_publish(lambda client, message: None)
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, CODECS["json"]) as reader,
        connected(server, CODECS["protobuf"]) as publisher,
    ):
        await reader.subscribe("room")
        bad = PublishRequest(channel="room", data=payload(data))

        assert await publisher.refused(bad) == 107
        await hub.publish("room", {"text": "ok"})
        assert await reader.next_values(1) == [{"text": "ok"}]


async def test_text_of_a_payload_is_kept(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room", publish="anyone")
    text = b'{"b":1.00,"a":12345678901234567890123, "c":"\\u00e4\xc3\xa4"}'
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.subscribe("room")
        reply = await client.command(PublishRequest(channel="room", data=payload(text)))

        assert reply.publish is not None
        assert bytes((await client.next_publication()).data) == text


async def test_publisher_sees_what_others_see_of_it(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room", publish="anyone").on_subscribe(lambda client: Grant(info=b'"seat"'))
    hub.on_connect(lambda client: User("42", info="conn"))
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec) as client,
        connected(server, codec) as outsider,
    ):
        await client.subscribe("room")
        await client.publish("room", 1)
        await outsider.publish("room", 2)
        first, second = [await client.next_publication() for _ in range(2)]

        assert first.info is not None
        assert second.info is not None
        assert (value(first.info.conn_info), value(first.info.chan_info)) == ("conn", "seat")
        assert value(second.info.conn_info) == "conn"
        assert not bytes(second.info.chan_info)


async def test_recovered_binary_publication_ends_a_json_client() -> None:
    hub = Hub()
    hub.channel("blobs", bytes, history=5, read_history="anyone")
    async with serve(hub, HOST, 0) as server:
        await hub.publish("blobs", b"\xff")
        requests: list[Request] = [
            SubscribeRequest(channel="blobs", recover=True),
            HistoryRequest(channel="blobs", limit=5),
        ]
        for request in requests:
            async with connected(server, CODECS["json"]) as client:
                await client.send(command(9, request))
                assert await client.closed() == (3506, "inappropriate protocol")
            async with connected(server, CODECS["protobuf"]) as client:
                assert (await client.command(request)).error is None
        assert hub.channels() == {}


@pytest.mark.parametrize("grant", [Grant(info=b"{"), Grant(data=b"no")])
async def test_grant_that_is_no_json_is_the_applications_mistake(
    grant: Grant, codec: Dialect, caplog: pytest.LogCaptureFixture
) -> None:
    hub = Hub()
    hub.channel("room").on_subscribe(lambda client: grant)
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        assert await client.refused(SubscribeRequest(channel="room")) == 100
        assert hub.channels() == {}

    assert "payload is not JSON" in caplog.text
    caplog.clear()


async def test_options_are_asked_before_the_hook(codec: Dialect) -> None:
    hub = Hub()
    asked: list[str] = []
    channel = hub.channel("room", subscribe="users", publish="subscribers")

    @channel.on_subscribe
    def may_join(client: Client) -> None:
        asked.append("subscribe")

    @channel.on_publish
    def may_publish(client: Client) -> None:
        asked.append("publish")

    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        assert await client.refused(SubscribeRequest(channel="room")) == 103
        publish = PublishRequest(channel="room", data=payload(b"1"))
        assert await client.refused(publish) == 103

    assert asked == []


async def test_new_info_reaches_presence_and_publications_of_standing_subscriptions(
    codec: Dialect,
) -> None:
    hub = Hub()
    hub.channel("room", presence=True, publish="anyone")
    hub.on_connect(lambda client: User("42", info="old"))
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.subscribe("room")
        await hub.refresh(user="42", info="new")
        await client.publish("room", 1)
        (member,) = (await hub.presence("room")).values()
        while (push := await client.next_push()).pub is None:
            pass

        assert member.conn_info == b'"new"'
        assert push.pub.info is not None
        assert value(push.pub.info.conn_info) == "new"


async def test_personal_channel_must_be_declared() -> None:
    with pytest.raises(ConfigError, match="personal"):
        async with Hub(personal="#{user}"):
            pass


async def test_version_needs_history() -> None:
    hub = Hub()
    hub.channel("room")
    async with hub:
        with pytest.raises(ValueError, match="version=1 needs history"):
            await hub.publish("room", 1, version=1)
