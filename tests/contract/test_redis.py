"""What brokers guarantee, over Valkey and Redis."""

import asyncio
from collections.abc import Iterator

import pytest

from hubbub.brokers.base import Broker
from hubbub.brokers.redis.broker import RedisBroker
from hubbub.clock import Clock
from hubbub.testing import BROKER_CHECKS, check_broker
from tests.servers.cluster import ValkeyCluster
from tests.servers.valkey import ValkeyServer, find_redis
from tests.timing import MS


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
    for names in (BUSY, WAITING):
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
