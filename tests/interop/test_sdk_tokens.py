"""Tokens that the official SDKs show, lose and renew."""

from collections.abc import Mapping
from typing import Any

import pytest

from hubbub import Hub, Tokens
from hubbub.auth.tokens import sign
from hubbub.testing import FakeClock
from tests.interop.hubs import Hubs
from tests.interop.sdks import Sdk, connect

SECRET = "the secret of the tests, long enough for HS256"
NOW = 1_700_000_000.0
"""Where the hub's clock stands. The SDKs have a real one, and are told spans of time alone."""

HOUR = 3_600
GRACE = 5.0

# For tests that wait for a second to pass, the shortest that an SDK can be told: each SDK once.
once_each = pytest.mark.parametrize("sdk", ["javascript-json", "python-protobuf"], indirect=True)


def token(expires_in: float | None = None, *, secret: str = SECRET, **claims: Any) -> str:
    """Make a token, of user ann unless said otherwise."""
    given: Mapping[str, Any] = {"sub": "ann", **claims}
    if expires_in is not None:
        given = {**given, "exp": NOW + expires_in}
    return sign(given, secret)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(time=NOW)


@pytest.fixture
def hub(clock: FakeClock) -> Hub:
    """Make a hub that checks tokens, and has channels for those with a token of their own."""
    hub = Hub(
        tokens=Tokens(secret=SECRET, clock=clock),
        ping_interval=0,
        expiry_grace=GRACE,
        clock=clock,
    )
    hub.channel("private", history=10, subscribe="nobody", presence=True)
    hub.channel("news")
    hub.rpc("echo")(lambda client, data: data)
    return hub


async def test_good_token_says_who_it_is(hubs: Hubs, hub: Hub, sdk: Sdk) -> None:
    served = await hubs.start(hub)
    client = await connect(sdk, served.url, token=token(HOUR, info={"name": "Ann"}))

    assert [(one.user, one.info) for one in hub.clients()] == [("ann", {"name": "Ann"})]
    assert client.heard("get_token") == []


@pytest.mark.parametrize(
    "bad", [token(secret="another secret, just as long as it"), "no token", token(channel="news")]
)
async def test_bad_token_keeps_it_away(hubs: Hubs, hub: Hub, sdk: Sdk, bad: str) -> None:
    served = await hubs.start(hub)
    client = await sdk.open(served.url, token=bad, tokens=[token()])
    await client.lead("connect")
    disconnected = await client.next("disconnected")

    assert (disconnected["code"], disconnected["reason"]) == (3500, "invalid token")
    assert client.heard("get_token") == []
    assert client.heard("connected") == []


async def test_no_token_keeps_it_away(hubs: Hubs, hub: Hub, sdk: Sdk) -> None:
    served = await hubs.start(hub)
    client = await sdk.open(served.url)
    await client.lead("connect")
    disconnected = await client.next("disconnected")

    assert (disconnected["code"], disconnected["reason"]) == (3501, "bad request")


async def test_expired_token_is_renewed(hubs: Hubs, hub: Hub, sdk: Sdk) -> None:
    served = await hubs.start(hub)
    client = await sdk.open(served.url, token=token(-1), tokens=[token(HOUR)])
    # Its first commands come with it, and are lost with it.
    await client.lead("subscription", channel="news")
    await client.lead("subscribe", channel="news")
    await client.connect()
    await client.next("subscribed", "news")
    await hub.publish("news", 1)

    assert [one["code"] for one in client.heard("error")] == [109]
    assert len(client.heard("get_token")) == 1
    assert await client.take(1, "news") == [1]
    assert [one.user for one in hub.clients()] == ["ann"]


@once_each
async def test_connection_outlives_its_token(
    hubs: Hubs, hub: Hub, sdk: Sdk, clock: FakeClock
) -> None:
    served = await hubs.start(hub)
    client = await connect(sdk, served.url, token=token(1), tokens=[token(60)])
    await client.next("get_token")  # after a second
    await client.rpc("echo", 1)  # answered behind the new token
    clock.advance(1 + GRACE + 1)  # the old one is over
    await client.rpc("echo", 2)

    assert len(client.heard("connected")) == 1

    clock.advance(60 + GRACE)  # the new one as well
    connecting = await client.next("connecting")

    assert (connecting["code"], connecting["reason"]) == (3005, "connection expired")


async def test_expired_connection_comes_back_with_a_new_token(
    hubs: Hubs, hub: Hub, sdk: Sdk, clock: FakeClock
) -> None:
    served = await hubs.start(hub)
    client = await connect(sdk, served.url, token=token(60), tokens=[token(HOUR)])
    clock.advance(60 + GRACE - 1)
    await client.rpc("echo", 1)
    assert client.unread("connecting") == []
    clock.advance(1.5)
    connecting = await client.next("connecting")
    await client.next("connected")

    assert connecting["code"] == 3005
    assert len(client.heard("get_token")) == 1


@once_each
async def test_expired_token_in_refresh_is_renewed_once_more(
    hubs: Hubs, hub: Hub, sdk: Sdk
) -> None:
    served = await hubs.start(hub)
    client = await connect(sdk, served.url, token=token(1), tokens=[token(-1), token(HOUR)])
    connecting = await client.next("connecting")  # after a second
    await client.next("connected")

    assert (connecting["code"], connecting["reason"]) == (3005, "connection expired")
    assert len(client.heard("get_token")) == 2


@once_each
async def test_token_of_another_user_ends_the_connection(hubs: Hubs, hub: Hub, sdk: Sdk) -> None:
    served = await hubs.start(hub)
    tokens = [token(HOUR, sub="eve")]
    client = await connect(sdk, served.url, token=token(1), tokens=tokens)
    disconnected = await client.next("disconnected")

    assert (disconnected["code"], disconnected["reason"]) == (3500, "invalid token")


# Of subscriptions


def ticket(expires_in: float | None = None, **claims: Any) -> str:
    """Make a subscription token, for ann and the private channel unless said otherwise."""
    return token(expires_in, **{"channel": "private", **claims})


async def test_good_subscription_token_lets_in(hubs: Hubs, hub: Hub, sdk: Sdk) -> None:
    served = await hubs.start(hub)
    client = await connect(sdk, served.url, token=token())
    good = ticket(info={"role": "guest"}, data={"hello": 1})
    subscribed = await client.subscribe("private", token=good)
    presence = await client.lead("presence", channel="private")

    assert subscribed["data"] == {"hello": 1}
    assert [one["chan_info"] for one in presence.values()] == [{"role": "guest"}]


async def test_subscription_token_is_asked_for(hubs: Hubs, hub: Hub, sdk: Sdk) -> None:
    served = await hubs.start(hub)
    client = await connect(sdk, served.url, token=token())
    await client.subscribe("private", tokens=[ticket()])

    assert len(client.heard("get_token", "private")) == 1


@pytest.mark.parametrize(
    "bad", ["", ticket(secret="another secret, just as long as it"), "no token", token()]
)
async def test_bad_subscription_token_is_refused(hubs: Hubs, hub: Hub, sdk: Sdk, bad: str) -> None:
    served = await hubs.start(hub)
    client = await connect(sdk, served.url, token=token())
    await client.begin("private", token=bad)
    unsubscribed = await client.next("unsubscribed", "private")

    assert (unsubscribed["code"], unsubscribed["reason"]) == (103, "permission denied")
    assert await client.rpc("echo", "there") == "there"


async def test_private_name_needs_a_subscription_token(hubs: Hubs, hub: Hub, sdk: Sdk) -> None:
    served = await hubs.start(hub)
    client = await connect(sdk, served.url, token=token())
    await client.subscribe("news")
    await client.begin("$news")
    unsubscribed = await client.next("unsubscribed", "$news")
    other = await connect(sdk, served.url, token=token())
    await other.subscribe("$news", token=ticket(channel="$news"))

    assert unsubscribed["code"] == 103


@pytest.mark.parametrize("other", [{"channel": "news"}, {"sub": "eve"}], ids=["channel", "user"])
async def test_subscription_token_for_another_ends_the_connection(
    hubs: Hubs, hub: Hub, sdk: Sdk, other: dict[str, Any]
) -> None:
    served = await hubs.start(hub)
    client = await connect(sdk, served.url, token=token())
    await client.begin("private", token=ticket(**other))
    disconnected = await client.next("disconnected")

    assert (disconnected["code"], disconnected["reason"]) == (3500, "invalid token")


async def test_expired_subscription_token_is_renewed(hubs: Hubs, hub: Hub, sdk: Sdk) -> None:
    served = await hubs.start(hub)
    client = await connect(sdk, served.url, token=token())
    await client.subscribe("private", token=ticket(-1), tokens=[ticket(HOUR)])

    assert [one["code"] for one in client.heard("error", "private")] == [109]
    assert len(client.heard("get_token", "private")) == 1


@once_each
async def test_subscription_outlives_its_token(
    hubs: Hubs, hub: Hub, sdk: Sdk, clock: FakeClock
) -> None:
    served = await hubs.start(hub)
    client = await connect(sdk, served.url, token=token())
    await client.subscribe("private", token=ticket(1), tokens=[ticket(60), ticket(HOUR)])
    await client.next("get_token", "private")  # after a second
    await client.rpc("echo", 1)  # answered behind the new token
    clock.advance(1 + GRACE + 1)  # the old one is over
    await hub.publish("private", 1)

    assert await client.take(1, "private") == [1]
    assert len(client.heard("subscribed", "private")) == 1

    clock.advance(60 + GRACE)  # the new one as well
    await hub.publish("private", 2)
    subscribing = await client.next("subscribing", "private")
    subscribed = await client.next("subscribed", "private")

    assert (subscribing["code"], subscribing["reason"]) == (2501, "subscription expired")
    assert subscribed["recovered"]
    assert await client.take(1, "private") == [2]
    assert len(client.heard("connected")) == 1


@once_each
async def test_expired_token_in_sub_refresh_ends_the_subscription(
    hubs: Hubs, hub: Hub, sdk: Sdk
) -> None:
    served = await hubs.start(hub)
    client = await connect(sdk, served.url, token=token())
    await client.subscribe("private", token=ticket(1), tokens=[ticket(-1)])
    unsubscribed = await client.next("unsubscribed", "private")

    assert unsubscribed["code"] == 109
    assert await client.rpc("echo", "there") == "there"
    assert hub.channels() == {}
