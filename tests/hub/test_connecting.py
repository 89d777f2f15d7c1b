import asyncio
from typing import Any

import pytest
from websockets.exceptions import InvalidHandshake

from hubbub import (
    Client,
    CommandError,
    Disconnect,
    DisconnectCode,
    Grant,
    Hub,
    PermissionDenied,
    Tokens,
    User,
    serve,
)
from hubbub.auth.tokens import sign
from hubbub.protocol.commands import (
    ConnectRequest,
    RefreshRequest,
    SubscribeRequest,
    UnsubscribeRequest,
)
from hubbub.testing import FakeClock
from tests.hub.brokers import RemoteBroker
from tests.hub.gate import Gate
from tests.hub.raw import CODECS, TIMEOUT, Dialect, RawClient, command, connected, raw, value
from tests.server.wire import until

HOST = "127.0.0.1"
SECRET = "nobody connects without knowing this"


def token(**claims: Any) -> str:
    return sign(claims, SECRET)


def hub_with_tokens(clock: FakeClock, **options: Any) -> Hub:
    return Hub(tokens=Tokens(secret=SECRET, clock=clock), clock=clock, **options)


# The result.


async def test_result_says_who_the_server_is_and_how_it_pings(codec: Dialect) -> None:
    async with serve(Hub(), HOST, 0) as server, RawClient(server, codec) as client:
        result = await client.connect()

        assert len(result.client) == 36
        assert result.version.startswith("hubbub ")
        assert (result.ping, result.pong) == (25, True)
        assert (result.expires, result.ttl) == (False, 0)
        assert (result.session, result.node, result.subs) == ("", "", {})


@pytest.mark.parametrize(("interval", "told"), [(0.4, 1), (2.6, 3), (0, 0)])
async def test_ping_interval_is_told_in_whole_seconds(
    codec: Dialect, clock: FakeClock, interval: float, told: int
) -> None:
    hub = Hub(ping_interval=interval, pong_timeout=0.1, clock=clock)
    async with serve(hub, HOST, 0) as server, RawClient(server, codec) as client:
        result = await client.connect()

        assert (result.ping, result.pong) == (told, bool(told))
        if not interval:
            clock.advance(1000)
            await client.sync()
            assert client.pings == 0


@pytest.mark.parametrize(
    ("path", "subprotocol", "binary"),
    [
        ("/", None, False),
        ("/", "centrifuge-json", False),
        ("/", "centrifuge-protobuf", True),
        ("/?format=protobuf", None, True),
        ("/?cf_protocol=protobuf", None, True),
        ("/?format=json", None, False),
    ],
)
async def test_format_is_chosen_by_subprotocol_or_query(
    path: str, subprotocol: str | None, binary: bool
) -> None:
    codec = CODECS["protobuf" if binary else "json"]
    async with serve(Hub(), HOST, 0) as server:
        client = RawClient(server, CODECS["json"], path=path, subprotocol=subprotocol)
        client.codec = codec
        async with client:
            await client.connect()

            assert client.socket.subprotocol == subprotocol


async def test_subprotocol_of_others_is_not_chosen() -> None:
    async with serve(Hub(), HOST, 0) as server:
        try:
            async with RawClient(server, subprotocol="mqtt") as client:
                assert client.socket.subprotocol is None
                await client.connect()
        except InvalidHandshake:
            pytest.fail("a client that does not insist is served")


async def test_frame_pings_take_the_place_of_pings(codec: Dialect, clock: FakeClock) -> None:
    path = "/?x=1&cf_ws_frame_ping_pong=true"
    async with (
        serve(Hub(clock=clock), HOST, 0) as server,
        RawClient(server, codec, path=path) as client,
    ):
        result = await client.connect()
        for _ in range(60):
            clock.advance(1)
        await client.sync()

        assert (result.ping, result.pong) == (0, False)
        assert client.pings == 0


# Who it is.


async def test_hook_decides_who_it_is(codec: Dialect) -> None:
    hub = Hub()
    seen: list[ConnectRequest] = []

    @hub.on_connect
    async def connect(client: Client, request: ConnectRequest) -> User:
        seen.append(request)
        await asyncio.sleep(0)
        assert not client.connected
        return User("42", info={"name": "Ann"}, data=["hello"], meta={"plan": "free"})

    hub.channel("room", presence=True)
    async with serve(hub, HOST, 0) as server, RawClient(server, codec) as client:
        result = await client.connect(
            token="t", data=raw({"d": 1}), headers={"h": "1"}, name="sdk", version="3"
        )
        await client.subscribe("room")

        assert (seen[0].token, value(seen[0].data), seen[0].headers) == ("t", {"d": 1}, {"h": "1"})
        assert value(result.data) == ["hello"]
        (client_seen,) = hub.clients(user="42")
        assert client_seen.meta == {"plan": "free"}
        assert client_seen.info == {"name": "Ann"}
        (member,) = (await hub.presence("room")).values()
        assert member.conn_info == b'{"name":"Ann"}'


@pytest.mark.parametrize(("returned", "user"), [("42", "42"), (None, ""), (User(), "")])
async def test_hook_may_return_less(codec: Dialect, returned: Any, user: str) -> None:
    hub = Hub()
    hub.on_connect(lambda client: returned)
    async with serve(hub, HOST, 0) as server, connected(server, codec):
        assert [each.user for each in hub.clients()] == [user]


@pytest.mark.parametrize("suspends", [False, True])
@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (PermissionDenied("not you"), (103, "not you", False)),
        (CommandError(1234, "custom", temporary=True), (1234, "custom", True)),
        (Disconnect(DisconnectCode.FORCE_RECONNECT), (3011, "force reconnect")),
        (Disconnect(4500, "never"), (4500, "never")),
        (RuntimeError("broken"), (100, "internal server error", True)),
    ],
    ids=lambda value: "" if isinstance(value, tuple) else repr(value),
)
async def test_hook_that_refuses(
    codec: Dialect,
    raised: Exception,
    expected: tuple[Any, ...],
    suspends: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = Hub()

    def refuse(client: Client) -> None:
        raise raised

    async def refuse_later(client: Client) -> None:
        await asyncio.sleep(0)
        raise raised

    hub.on_connect(refuse_later if suspends else refuse)
    told: list[int] = []
    hub.on_disconnect(lambda client, code: told.append(code))
    async with serve(hub, HOST, 0) as server, RawClient(server, codec) as client:
        await client.send(command(1, ConnectRequest()))
        if isinstance(raised, Disconnect):
            assert await client.closed() == expected
        else:
            error = (await client.reply(1)).error
            assert error is not None
            assert (error.code, error.message, error.temporary) == expected
        assert hub.clients() == []
    assert told == []  # it had never connected
    if isinstance(raised, RuntimeError):
        assert "command connect failed" in caplog.text
        caplog.clear()


async def test_hook_that_returns_something_else_is_a_bug(
    codec: Dialect, caplog: pytest.LogCaptureFixture
) -> None:
    hub = Hub()
    hub.on_connect(lambda client: 42)
    async with serve(hub, HOST, 0) as server, RawClient(server, codec) as client:
        assert await client.refused(ConnectRequest()) == 100
    assert "a hook returned 42" in caplog.text
    caplog.clear()


async def test_hook_may_disconnect_its_client(codec: Dialect) -> None:
    hub = Hub()
    hub.on_connect(lambda client: client.disconnect(4500, "never"))
    async with serve(hub, HOST, 0) as server, RawClient(server, codec) as client:
        await client.send(command(1, ConnectRequest()))

        assert await client.closed() == (4500, "never")
        assert client.received == []
        assert hub.clients() == []


async def test_client_that_goes_while_connecting_leaves_nothing(codec: Dialect) -> None:
    hub, gate = Hub(), Gate()
    done = asyncio.Event()

    @hub.on_connect
    async def connect(client: Client) -> str:
        await gate()
        done.set()
        return "42"

    async with serve(hub, HOST, 0) as server, RawClient(server, codec) as client:
        await client.send(command(1, ConnectRequest()))
        await gate.reached()
        client.socket.transport.abort()
        gate.open()
        async with connected(server, codec) as other:
            await other.sync()
            await done.wait()
            assert [each.id for each in hub.clients()] == [other.connection_id]


async def test_token_says_who_it_is(codec: Dialect, clock: FakeClock) -> None:
    hub = hub_with_tokens(clock)
    hub.channel("room", presence=True, history=5)
    hub.channel("other")
    claims = token(
        sub="42",
        exp=clock.time() + 60,
        info={"name": "Ann"},
        meta=[1],
        subs={"room": {"info": {"seat": 1}, "data": "hello"}, "other": {}},
    )
    async with serve(hub, HOST, 0) as server, RawClient(server, codec) as client:
        result = await client.connect(token=claims)

        assert (result.expires, result.ttl) == (True, 60)
        assert set(result.subs) == {"room", "other"}
        assert value(result.subs["room"].data) == "hello"
        assert result.subs["room"].recoverable
        (member,) = (await hub.presence("room")).values()
        assert (member.user, member.conn_info, member.chan_info) == (
            "42",
            b'{"name":"Ann"}',
            b'{"seat":1}',
        )
        assert hub.clients()[0].meta == [1]


@pytest.mark.parametrize(
    ("options", "connects"),
    [
        ({}, True),
        ({"anonymous": False}, False),
        ({"anonymous": False, "insecure": True}, True),
        ({"tokens": True}, False),
        ({"tokens": True, "anonymous": True}, True),
        ({"tokens": True, "insecure": True}, True),
    ],
)
async def test_anonymous_clients(
    codec: Dialect, clock: FakeClock, options: dict[str, Any], connects: bool
) -> None:
    if options.get("tokens"):
        options = options | {"tokens": Tokens(secret=SECRET, clock=clock)}
    hub = Hub(**options)
    async with serve(hub, HOST, 0) as server, RawClient(server, codec) as client:
        if connects:
            await client.connect()
            assert [each.user for each in hub.clients()] == [""]
        else:
            await client.send(command(1, ConnectRequest()))
            assert await client.closed() == (3501, "bad request")


async def test_token_is_refused_where_there_is_no_key(codec: Dialect) -> None:
    async with serve(Hub(), HOST, 0) as server, RawClient(server, codec) as client:
        await client.send(command(1, ConnectRequest(token=token(sub="42"))))

        assert await client.closed() == (3500, "invalid token")


async def test_insecure_takes_no_bad_tokens_and_expires_nobody(
    codec: Dialect, clock: FakeClock
) -> None:
    hub = hub_with_tokens(clock, insecure=True)
    hub.channel("room", publish="nobody", presence=True, read_presence="nobody")
    async with serve(hub, HOST, 0) as server:
        async with RawClient(server, codec) as bad:
            await bad.send(command(1, ConnectRequest(token="x")))
            assert await bad.closed() == (3500, "invalid token")
        async with RawClient(server, codec) as late:
            expired = token(sub="42", exp=clock.time() - 1)
            assert await late.refused(ConnectRequest(token=expired)) == 109
        async with RawClient(server, codec) as client:
            result = await client.connect(token=token(sub="42", exp=clock.time() + 5))
            client.answers = True
            clock.advance(6)
            clock.advance(6)
            await client.sync()
            assert not result.expires
            await client.subscribe("$room")
            await client.publish("room", 1)
            assert await client.refused(SubscribeRequest(channel="nowhere")) == 102


async def test_hook_sees_what_the_token_says_and_may_overrule_it(
    codec: Dialect, clock: FakeClock
) -> None:
    hub = hub_with_tokens(clock)

    @hub.on_connect
    def connect(client: Client, request: ConnectRequest) -> User | None:
        if client.user == "blocked":
            raise PermissionDenied
        return User("guest") if not request.token else None

    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec, token=token(sub="42")),
        connected(server, codec),
        RawClient(server, codec) as blocked,
    ):
        refused = await blocked.refused(ConnectRequest(token=token(sub="blocked")))

        assert refused == 103
        assert {each.user for each in hub.clients()} == {"42", "guest"}


async def test_personal_channel(codec: Dialect) -> None:
    hub = Hub(personal="user:#{user}")
    hub.channel("user:{name}", history=5)
    hub.on_connect(lambda client, request: request.name)
    async with serve(hub, HOST, 0) as server:
        async with RawClient(server, codec) as client:
            result = await client.connect(name="42")
            await hub.publish("user:#42", "hi")

            assert set(result.subs) == {"user:#42"}
            assert await client.next_values(1) == ["hi"]
        async with RawClient(server, codec) as anonymous:
            assert (await anonymous.connect()).subs == {}


# Server-side subscriptions.


async def test_server_side_subscriptions_recover(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room", history=10, join_leave=True, presence=True, delta=True)
    hub.channel("plain")
    grants = {"room": Grant(data=b'"granted"'), "plain": Grant()}
    hub.on_connect(lambda client: User("42", channels=grants))
    async with serve(hub, HOST, 0) as server:
        position = await hub.publish("room", 1)
        await hub.publish("room", 2)
        async with RawClient(server, codec) as client:
            state = SubscribeRequest(recover=True, offset=1, epoch=position.epoch, delta="bsdiff")
            result = await client.connect(subs={"room": state, "uninvited": state})
            room = result.subs["room"]

            assert set(result.subs) == {"room", "plain"}
            assert room.recovered
            assert not room.delta  # there is but one kind
            assert [value(each.data) for each in room.publications] == [2]
            assert value(room.data) == "granted"
            # Joins come behind the reply.
            assert client.received[0].connect is not None
            joined = (await client.next_push()).join
            assert joined is not None
            assert joined.info.user == "42"
            await hub.publish("room", 3)
            assert await client.next_values(1) == [3]


async def test_server_side_subscription_can_be_ended_by_the_client(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("room", presence=True)
    hub.on_connect(lambda client: User("42", channels=["room"]))
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        reply = await client.command(UnsubscribeRequest(channel="room"))

        assert reply.unsubscribe is not None
        assert hub.channels() == {}
        assert await hub.presence("room") == {}


@pytest.mark.parametrize("bad", ["nowhere", "room" * 100])
async def test_server_side_channel_that_cannot_be_fails_the_connect(
    codec: Dialect, bad: str
) -> None:
    hub = Hub()
    hub.channel("room", presence=True)
    hub.on_connect(lambda client: User("42", channels=["room", bad]))
    async with serve(hub, HOST, 0) as server, RawClient(server, codec) as client:
        code = await client.refused(ConnectRequest())

        assert code == (102 if bad == "nowhere" else 107)
        assert await hub.presence("room") == {}
        assert hub.channels() == {}
        assert hub.clients() == []


async def test_client_that_goes_while_its_subscriptions_are_made_leaves_nothing(
    codec: Dialect,
) -> None:
    broker = RemoteBroker()
    hub = Hub(broker)
    hub.channel("{name}", presence=True, history=5, join_leave=True)
    hub.on_connect(lambda client: User("42", channels=["one", "two"]))
    async with serve(hub, HOST, 0) as server, RawClient(server, codec) as client:
        broker.hold("history")
        await client.send(command(1, ConnectRequest()))
        await broker.entered("history")
        client.socket.transport.abort()
        await until(lambda: not hub.clients())
        broker.release("history")
        await until(lambda: {"unsubscribe", "remove_presence"} <= set(broker.calls))

        assert hub.channels() == {}
        assert await hub.presence("one") == {}
        assert "announce" not in broker.calls


# Expiry.


async def test_connection_that_is_not_refreshed_ends(codec: Dialect, clock: FakeClock) -> None:
    async with serve(hub_with_tokens(clock), HOST, 0) as server, RawClient(server, codec) as client:
        await client.connect(token=token(sub="42", exp=clock.time() + 5))
        for _ in range(29):
            clock.advance(1)
            await client.sync()
        clock.advance(1.2)

        assert await client.closed() == (3005, "connection expired")


async def test_connection_that_is_refreshed_goes_on(codec: Dialect, clock: FakeClock) -> None:
    hub = hub_with_tokens(clock)
    async with serve(hub, HOST, 0) as server, RawClient(server, codec) as client:
        await client.connect(token=token(sub="42", exp=clock.time() + 5))
        fresh = token(sub="42", exp=clock.time() + 60, info="new")
        reply = await client.command(RefreshRequest(token=fresh))

        assert reply.refresh is not None
        assert (reply.refresh.expires, reply.refresh.ttl) == (True, 60)
        assert hub.clients()[0].info == "new"
        for _ in range(40):
            clock.advance(1)
            await client.sync()

        # Without an expiry from now on.
        reply = await client.command(RefreshRequest(token=token(sub="42")))
        assert reply.refresh is not None
        assert not reply.refresh.expires
        for _ in range(100):
            clock.advance(1)
            await client.sync()


async def test_endless_connection_can_be_given_an_end(codec: Dialect, clock: FakeClock) -> None:
    hub = hub_with_tokens(clock)
    async with serve(hub, HOST, 0) as server, RawClient(server, codec) as client:
        await client.connect(token=token(sub="42"))
        reply = await client.command(RefreshRequest(token=token(sub="42", exp=clock.time() + 3)))

        # The client has to know, since it is the one that can prolong it.
        assert reply.refresh is not None
        assert (reply.refresh.expires, reply.refresh.ttl) == (True, 3)
        clock.advance(3.2)
        await client.sync()
        again = await client.command(RefreshRequest(token=token(sub="42", exp=clock.time() + 9)))
        assert again.refresh is not None
        assert again.refresh.ttl == 9


async def test_refresh_without_a_token(codec: Dialect, clock: FakeClock) -> None:
    async with serve(hub_with_tokens(clock), HOST, 0) as server, RawClient(server, codec) as client:
        await client.connect(token=token(sub="42", exp=clock.time() + 5))
        await client.send(command(9, RefreshRequest()))

        assert await client.closed() == (3501, "bad request")


async def test_refresh_where_the_server_refreshes(codec: Dialect, clock: FakeClock) -> None:
    hub = hub_with_tokens(clock)
    hub.on_connect(lambda client: User("42", expires_at=clock.time() + 5))
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.send(command(9, RefreshRequest(token=token(sub="42"))))

        assert await client.closed() == (3501, "bad request")


async def test_refresh_with_other_channels_reconnects(codec: Dialect, clock: FakeClock) -> None:
    hub = hub_with_tokens(clock)
    hub.channel("{name}")
    end = clock.time() + 60
    async with serve(hub, HOST, 0) as server, RawClient(server, codec) as client:
        await client.connect(token=token(sub="42", exp=end, channels=["a", "b"]))
        same = token(sub="42", exp=end, channels=["b", "a"])
        assert (await client.command(RefreshRequest(token=same))).refresh is not None
        await client.send(command(9, RefreshRequest(token=token(sub="42", channels=["a"]))))

        assert await client.closed() == (3010, "insufficient state")


async def test_refresh_that_is_over_already(codec: Dialect, clock: FakeClock) -> None:
    now = clock.time()
    over = token(sub="42", expire_at=now - 1)
    async with serve(hub_with_tokens(clock), HOST, 0) as server:
        async with RawClient(server, codec) as early:
            assert await early.refused(ConnectRequest(token=over)) == 110
        async with connected(server, codec, token=token(sub="42", exp=now + 9)) as client:
            assert await client.refused(RefreshRequest(token=over)) == 110


@pytest.mark.parametrize("suspends", [False, True])
async def test_hook_prolongs_what_expires(codec: Dialect, clock: FakeClock, suspends: bool) -> None:
    hub = Hub(clock=clock)
    hub.on_connect(lambda client: User("42", expires_at=clock.time() + 5))
    asked: list[str] = []

    def refresh(client: Client, token: str) -> User | None:
        asked.append(token)
        if len(asked) < 3:
            return User("42", info=len(asked), expires_at=clock.time() + 5)
        return None

    async def refresh_later(client: Client, token: str) -> User | None:
        await asyncio.sleep(0)
        return refresh(client, token)

    hub.on_refresh(refresh_later if suspends else refresh)
    async with serve(hub, HOST, 0) as server, RawClient(server, codec) as client:
        assert not (await client.connect()).expires
        for count in (1, 2):
            clock.advance(5.2)
            await until(lambda: len(asked) == count)  # noqa: B023
            await client.sync()

            assert hub.clients()[0].info == count
        clock.advance(5.2)

        assert await client.closed() == (3005, "connection expired")
        assert asked == ["", "", ""]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (User("43", expires_at=2e9), (3005, "connection expired")),
        (User("42", expires_at=1e9), (3005, "connection expired")),
        (PermissionDenied(), (3005, "connection expired")),
        (Disconnect(4001, "gone"), (4001, "gone")),
        (RuntimeError("broken"), (3004, "internal server error")),
    ],
    ids=repr,
)
async def test_hook_that_does_not_prolong(
    codec: Dialect,
    clock: FakeClock,
    outcome: Any,
    expected: tuple[int, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = Hub(clock=clock)
    hub.on_connect(lambda client: User("42", expires_at=clock.time() + 5))

    @hub.on_refresh
    def refresh(client: Client) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        clock.advance(5.2)

        assert await client.closed() == expected
    if isinstance(outcome, RuntimeError):
        assert "on_refresh failed" in caplog.text
        caplog.clear()


async def test_hook_takes_tokens_of_the_application(codec: Dialect, clock: FakeClock) -> None:
    hub = Hub(clock=clock)
    hub.on_connect(lambda client: User("42", expires_at=clock.time() + 5))

    @hub.on_refresh
    async def refresh(client: Client, token: str) -> User | None:
        await asyncio.sleep(0)
        return User("42", expires_at=clock.time() + 60) if token == "good" else None

    async with serve(hub, HOST, 0) as server, RawClient(server, codec) as client:
        result = await client.connect(token="first")
        assert (result.expires, result.ttl) == (True, 5)
        reply = await client.command(RefreshRequest(token="good"))
        assert reply.refresh is not None
        assert reply.refresh.ttl == 60
        await client.send(command(9, RefreshRequest(token="bad")))

        assert await client.closed() == (3500, "invalid token")


# The end.


@pytest.mark.parametrize("suspends", [False, True])
async def test_hook_is_told_of_the_end(codec: Dialect, suspends: bool) -> None:
    hub = Hub()
    ends: asyncio.Queue[tuple[str, int, str]] = asyncio.Queue()
    hub.on_connect(lambda client, request: request.name)

    def told(client: Client, code: int, reason: str) -> None:
        assert not client.connected
        ends.put_nowait((client.user, code, reason))

    async def told_later(client: Client, code: int, reason: str) -> None:
        await asyncio.sleep(0)
        told(client, code, reason)

    hub.on_disconnect(told_later if suspends else told)
    async with serve(hub, HOST, 0) as server:
        async with connected(server, codec, name="gone"):
            pass
        async with connected(server, codec, name="sent") as client:
            await hub.disconnect(user="sent", code=4001, reason="away")
            await client.closed()
        async with connected(server, codec, name="wrong") as client:
            await client.send_frame(b"}")
            await client.closed()
        async with RawClient(server, codec):
            pass  # never connected
        async with asyncio.timeout(TIMEOUT):
            found = {await ends.get() for _ in range(3)}

        assert found == {
            ("gone", 3000, "connection closed"),
            ("sent", 4001, "away"),
            ("wrong", 3501, "bad request"),
        }
        assert ends.empty()


async def test_hook_that_fails_at_the_end_is_logged(
    codec: Dialect, caplog: pytest.LogCaptureFixture
) -> None:
    hub = Hub()
    hub.on_disconnect(lambda client: 1 // 0)
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.socket.close()
        await until(lambda: "on_disconnect failed" in caplog.text)
    caplog.clear()
