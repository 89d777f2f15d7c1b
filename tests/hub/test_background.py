"""Functions of the application that run while the hub runs."""

import asyncio

import pytest

from hubbub import Hub, serve
from tests.hub.raw import connected
from tests.server.wire import until

HOST = "127.0.0.1"


async def test_background_function_runs_as_long_as_the_hub() -> None:
    hub = Hub()
    hub.channel("news")
    seen: list[str] = []

    @hub.background
    async def tell() -> None:
        seen.append(f"running: {hub.running}")
        try:
            for number in range(3):
                await hub.publish("news", number)
            seen.append("published")
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")

    for _ in range(2):  # each time anew
        async with hub:
            await until(lambda: seen[-1:] == ["published"])
        assert seen == ["running: True", "published", "cancelled"]
        seen.clear()


async def test_background_function_that_returns_ends_nothing() -> None:
    hub = Hub()
    hub.channel("news")
    ended = asyncio.Event()

    @hub.background
    async def once() -> None:
        ended.set()

    async with serve(hub, HOST, 0) as server:
        await ended.wait()
        async with connected(server) as client:
            await client.subscribe("news")


async def test_background_function_that_fails_ends_the_hub(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = Hub()
    fail = asyncio.Event()

    @hub.background
    async def break_down() -> None:
        await fail.wait()
        raise LookupError("no data")

    async def break_the_hub() -> None:
        async with serve(hub, HOST, 0) as server, connected(server) as client:
            fail.set()
            assert await client.closed() == (3001, "shutdown")
            assert not hub.running

    with pytest.raises(ExceptionGroup) as failure:
        await break_the_hub()

    assert failure.group_contains(LookupError, match="no data")
    assert "the hub has ended by a failure" in caplog.text
    caplog.clear()


async def test_what_cannot_run_in_the_background_is_refused() -> None:
    hub = Hub()

    def plain() -> None: ...

    async def needy(client: object) -> None: ...

    async def late() -> None: ...

    with pytest.raises(TypeError, match="plain must be an async function"):
        hub.background(plain)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="needy must not need arguments"):
        hub.background(needy)  # type: ignore[type-var]
    async with hub:
        with pytest.raises(RuntimeError, match="the hub is running"):
            hub.background(late)


async def test_deliveries_count_each_subscriber() -> None:
    hub = Hub()
    hub.channel("news", history=10)
    async with (
        serve(hub, HOST, 0) as server,
        connected(server) as first,
        connected(server) as second,
    ):
        await first.subscribe("news")
        await second.subscribe("news")
        await hub.publish("news", 1)
        assert await first.next_values(1) == await second.next_values(1) == [1]
        assert hub.deliveries == 2
        await second.unsubscribe("news")
        await hub.publish("news", 2)
        assert await first.next_values(1) == [2]

        assert hub.deliveries == 3
