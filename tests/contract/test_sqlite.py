"""What brokers guarantee, for the one in an SQLite file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hubbub.brokers.base import Broker
from hubbub.brokers.sqlite import SqliteBroker
from hubbub.clock import Clock
from hubbub.testing import BROKER_CHECKS, FakeClock, check_broker
from tests.timing import MS


@pytest.fixture
def make(tmp_path: Path) -> Callable[[Clock], Broker]:
    def make(clock: Clock) -> Broker:
        return SqliteBroker(tmp_path / "hub.db", synchronous="normal", clock=clock)

    return make


@pytest.mark.parametrize("guarantee", BROKER_CHECKS)
async def test_sqlite_broker_guarantees(guarantee: str, make: Callable[[Clock], Broker]) -> None:
    await check_broker(
        make, clock=FakeClock(), checks=[guarantee], timeout=5_000 * MS, quiet=10 * MS
    )
