"""What brokers guarantee, for the one in an SQLite file: by the checks, and by a model."""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis.stateful import rule

from hubbub.brokers.base import Broker
from hubbub.brokers.sqlite import SqliteBroker
from hubbub.clock import Clock
from hubbub.testing import BROKER_CHECKS, FakeClock, check_broker
from tests.contract.streams import StreamMachine
from tests.timing import MS

T = TypeVar("T")


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


class SqliteMachine(StreamMachine):
    """With restarts: streams and keys are what they were."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()

    def make(self) -> Broker:
        path = Path(self.directory.name) / "hub.db"
        return SqliteBroker(path, synchronous="normal", clock=self.clock)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    def advance_clock(self, seconds: float) -> None:
        async def advance() -> None:
            self.clock.advance(seconds)

        self.run(advance())

    @rule()
    def restart(self) -> None:
        self.leave()
        self.subscribed.clear()
        self.enter()

    def teardown(self) -> None:
        super().teardown()
        self.loop.close()
        self.directory.cleanup()


TestSqliteStreams = SqliteMachine.TestCase
TestSqliteStreams.settings = settings(max_examples=15, stateful_step_count=40, deadline=None)
