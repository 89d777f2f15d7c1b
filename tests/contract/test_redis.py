"""What brokers guarantee, over Valkey and Redis: by the checks, and by a model."""

import asyncio
import secrets
from collections.abc import Coroutine, Iterator
from typing import Any, ClassVar, TypeVar
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings

from hubbub.brokers.base import Broker
from hubbub.brokers.redis.broker import RedisBroker
from hubbub.clock import Clock
from hubbub.model import History, Position, Publication
from hubbub.testing import BROKER_CHECKS, check_broker
from tests.contract.streams import Recorder, StreamMachine
from tests.servers.cluster import ValkeyCluster
from tests.servers.valkey import ValkeyServer, find_redis
from tests.timing import MS

T = TypeVar("T")


@pytest.fixture(params=["valkey", "redis", "cluster"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    match request.param:
        case "valkey":
            with ValkeyServer() as server:
                yield server.url
        case "redis":
            with ValkeyServer(find_redis(), tcp=True) as server:
                yield server.url
        case _:
            with ValkeyCluster() as cluster:
                yield cluster.url


# Those that wait for a TTL want a loop that is not busy.
WAITING = [name for name in BROKER_CHECKS if name.endswith("-ttl")]
BUSY = [name for name in BROKER_CHECKS if name not in WAITING]


async def check_all(url: str) -> None:
    """Run all checks, many at once: each has a prefix of its own, and mostly waits."""
    # In a cluster scripts are the same, and so is the time that they go by.
    for names in (BUSY,) if "cluster" in url else (BUSY, WAITING):
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(check(url, name))


async def check(url: str, name: str) -> None:
    separator = "&" if "?" in url else "?"

    def broker(clock: Clock) -> Broker:
        return RedisBroker(f"{url}{separator}prefix={name}&timeout={4_000 * MS}")

    await check_broker(broker, checks=[name], timeout=5_000 * MS, ttl=200 * MS)


async def test_redis_broker_guarantees(url: str) -> None:
    await check_all(url)


# Real seconds of one of the model's: what a busy machine takes is nothing beside it.
SCALE = 1_000

# Time passes for all keys of a prefix.
PASS = """
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  local left = redis.call('PTTL', key) - ARGV[2]
  if left <= 0 then
    redis.call('DEL', key)
  else
    redis.call('PEXPIRE', key, left)
  end
end
"""


class SlowBroker(RedisBroker):
    """Takes TTLs in thousands of seconds."""

    async def publish(self, channel: str, publication: Publication, **options: Any) -> Position:
        for name in ("history_ttl", "meta_ttl"):
            options[name] *= SCALE
        return await super().publish(channel, publication, **options)

    async def history(self, channel: str, **options: Any) -> History:
        options["meta_ttl"] *= SCALE
        return await super().history(channel, **options)


class ControlRecorder(Recorder):
    """Knows by a message from the node to itself that all before it was delivered."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = asyncio.Event()

    def control(self, message: bytes) -> None:
        self.arrived.set()


class RedisMachine(StreamMachine):
    """With a server whose keys grow old when the model says so."""

    server: ClassVar[ValkeyServer]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.prefix = secrets.token_hex(8)
        self.recorder = ControlRecorder()
        self.patches = [
            patch(f"hubbub.brokers.redis.broker.{name}", 300 * SCALE)
            for name in ("IDEMPOTENCY_TTL", "UNUSED_TTL")
        ]
        for each in self.patches:
            each.start()

    def make(self) -> Broker:
        return SlowBroker(f"{self.server.url}?prefix={self.prefix}")

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(self.complete(coroutine))

    async def complete(self, coroutine: Coroutine[Any, Any, T]) -> T:
        result = await coroutine
        if self.broker.outage is None:
            recorder = self.recorder
            assert isinstance(recorder, ControlRecorder)
            recorder.arrived.clear()
            await self.broker.send_control(b"")
            async with asyncio.timeout(5_000 * MS):
                await recorder.arrived.wait()
        return result

    def advance_clock(self, seconds: float) -> None:
        milliseconds = int(seconds * SCALE * 1_000)
        self.server.command("EVAL", PASS, 0, f"{self.prefix}:*", milliseconds)

    def teardown(self) -> None:
        super().teardown()
        self.loop.close()
        for each in self.patches:
            each.stop()


@pytest.fixture(scope="module", autouse=True)
def server_of_the_model() -> Iterator[None]:
    with ValkeyServer() as server:
        RedisMachine.server = server
        yield


TestRedisStreams = RedisMachine.TestCase
TestRedisStreams.settings = settings(
    max_examples=15,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
