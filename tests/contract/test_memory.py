"""What brokers guarantee, for the one in memory: by the checks, and by a model of streams."""

from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import settings

from hubbub.brokers.base import Broker
from hubbub.brokers.memory import MemoryBroker
from hubbub.clock import Clock
from hubbub.testing import BROKER_CHECKS, FakeClock, check_broker
from tests.contract.streams import StreamMachine

T = TypeVar("T")


def memory_broker(clock: Clock) -> Broker:
    return MemoryBroker(clock=clock)


@pytest.mark.parametrize("guarantee", BROKER_CHECKS)
async def test_memory_broker_guarantees(guarantee: str) -> None:
    await check_broker(memory_broker, clock=FakeClock(), checks=[guarantee])


class MemoryMachine(StreamMachine):
    def make(self) -> Broker:
        return MemoryBroker(clock=self.clock)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run what never suspends."""
        try:
            coroutine.send(None)
        except StopIteration as stop:
            result: T = stop.value
            return result
        raise AssertionError("suspended")


TestStreams = MemoryMachine.TestCase
TestStreams.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
