"""What `hubbub.testing.connect` gives to tests of applications."""

import asyncio

import pytest

from hubbub import (
    Client,
    CommandError,
    Disconnect,
    ErrorCode,
    Hub,
    PermissionDenied,
    Tokens,
    User,
)
from hubbub.auth.tokens import sign
from hubbub.protocol.values import StreamPosition
from hubbub.testing import FakeClock, connect
from tests.timing import MS

SECRET = "a secret that is long enough for everybody"


def make_hub() -> Hub:
    hub = Hub()
    hub.channel("chat:{room}", history=10, presence=True, join_leave=True, publish="subscribers")
    return hub


async def test_two_clients_chat() -> None:
    hub = make_hub()
    async with hub, connect(hub) as alice, connect(hub) as bob:
        await alice.subscribe("chat:a")
        await bob.subscribe("chat:a")
        await alice.publish("chat:a", {"text": "hi"})

        assert await bob.next() == {"text": "hi"}
        assert await alice.next() == {"text": "hi"}
        assert set(await bob.presence("chat:a")) == {alice.id, bob.id}
        assert (await bob.presence_stats("chat:a")).num_clients == 2
        assert (await bob.history("chat:a")).offset == 1


async def test_error_is_raised_and_the_client_goes_on() -> None:
    hub = make_hub()
    async with hub, connect(hub) as client:
        with pytest.raises(CommandError) as refused:
            await client.subscribe("nowhere")
        with pytest.raises(CommandError) as forbidden:
            await client.publish("chat:a", 1)
        await client.subscribe("chat:a")

    assert refused.value.code == ErrorCode.UNKNOWN_CHANNEL
    assert forbidden.value.code == ErrorCode.PERMISSION_DENIED


async def test_client_that_comes_back_recovers() -> None:
    hub = make_hub()
    async with hub:
        async with connect(hub) as client:
            result = await client.subscribe("chat:a")
        for n in range(3):
            await hub.publish("chat:a", n)
        async with connect(hub) as client:
            since = StreamPosition(result.offset, result.epoch)
            recovered = await client.subscribe("chat:a", since=since)

    assert recovered.recovered
    assert [bytes(each.data) for each in recovered.publications] == [b"0", b"1", b"2"]


async def test_hooks_see_token_request_and_messages() -> None:
    hub = Hub(tokens=Tokens(secret=SECRET))
    heard: list[str] = []

    @hub.on_message
    def hear(client: Client, message: str) -> None:
        heard.append(f"{client.user} {client.request.headers['Cookie']} {message}")
        client.send("heard")

    @hub.rpc("double")
    async def double(client: Client, number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    token = sign({"sub": "42"}, SECRET)
    async with hub, connect(hub, token=token, headers={"Cookie": "a=b"}) as client:
        client.send("hello")
        assert await client.next() == "heard"
        assert await client.rpc("double", 21) == 42

    assert heard == ["42 a=b hello"]


async def test_refused_connect_is_raised() -> None:
    hub = Hub()

    @hub.on_connect
    def refuse(client: Client) -> User:
        raise PermissionDenied("go away")

    async with hub:
        with pytest.raises(CommandError, match="go away"):
            async with connect(hub):
                pass


async def test_end_of_the_session_is_raised_with_code_and_reason() -> None:
    hub = make_hub()
    async with hub, connect(hub) as client:
        await hub.disconnect(client=client.id, code=4501, reason="enough")
        assert (await client.ended()).code == 4501
        with pytest.raises(Disconnect, match="enough"):
            await client.subscribe("chat:a")


async def test_pings_are_answered_on_a_clock_that_the_test_drives() -> None:
    clock = FakeClock()
    hub = Hub(clock=clock)
    hub.channel("chat:{room}")
    async with hub, connect(hub) as client:
        for _ in range(100):
            clock.advance(1.0)
            await asyncio.sleep(0)
        await client.subscribe("chat:a")


async def test_who_waits_in_vain_is_told_in_time() -> None:
    hub = make_hub()
    async with hub, connect(hub, timeout=20 * MS) as client:
        await client.subscribe("chat:a")
        await client.next_push()  # its own join
        with pytest.raises(TimeoutError):
            await client.next()


async def test_end_of_the_block_is_the_end_of_the_connection() -> None:
    hub = make_hub()
    async with hub:
        async with connect(hub) as client:
            await client.subscribe("chat:a")
            assert hub.channels() == {"chat:a": 1}

        assert hub.channels() == {}
        assert hub.clients() == []


async def test_hub_that_does_not_run_is_refused() -> None:
    with pytest.raises(RuntimeError, match="not running"):
        async with connect(make_hub()):
            pass
