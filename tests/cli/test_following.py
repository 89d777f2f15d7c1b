"""What a follower does for those who ask over its connection, and when it comes back."""

import asyncio
import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close

from hubbub import Hub, serve
from hubbub.cli.backoff import MAX_DELAY, delay, is_final
from hubbub.cli.following import Follower, Interest, Lost
from hubbub.cli.hub_dialing import HubDialer, hub_address
from hubbub.protocol.commands import PublishRequest, RPCRequest
from hubbub.protocol.values import EMPTY
from tests.cli.commands import TIMEOUT
from tests.cli.test_tap import Diary


@given(st.integers(0, 10_000), st.floats(0.001, 60), st.integers())
def test_delay_is_within_its_bounds(attempts: int, most: float, seed: int) -> None:
    seconds = delay(attempts, most, random.Random(seed).uniform)

    assert min(0.1, most) <= seconds <= min(most, 0.5 * 2 ** min(attempts, 10))
    assert delay(attempts) <= MAX_DELAY


@pytest.mark.parametrize(
    ("code", "final"),
    [(1000, False), (1009, True), (3001, False), (3500, True), (4000, False), (4500, True)],
)
def test_code_says_whether_to_come_back(code: int, final: bool) -> None:
    assert is_final(Close(code, "")) == final


async def test_asking_without_or_while_losing_the_connection_is_lost() -> None:
    hub = Hub()
    hub.channel("news", publish="anyone")
    asked = asyncio.Event()

    @hub.rpc("think")
    async def think(client: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    async with serve(hub, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        dialer = HubDialer([hub_address(f"127.0.0.1:{port}/hub")])
        follower = Follower(dialer, Interest((), EMPTY, str, join_leave=False), Diary())
        with pytest.raises(Lost, match="there is no connection"):
            await follower.ask("publish", PublishRequest("news", EMPTY))
        assert not follower.abort()

        async with asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as group:
            running = group.create_task(follower.run())
            while not follower.is_following:
                await asyncio.sleep(0.001)
            asking = group.create_task(_lost(follower))
            await asked.wait()
            assert follower.abort()
            assert not follower.abort()
            await asking
            running.cancel()
        assert follower.client == ""
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def _lost(follower: Follower) -> None:
    with pytest.raises(Lost, match="ended before its reply came"):
        await follower.ask("rpc", RPCRequest(EMPTY, "think"))
