"""A broker of one's own, and the contract that it fulfils."""

from typing import Any

import pytest

from hubbub.brokers.base import Broker
from hubbub.brokers.memory import MemoryBroker
from hubbub.clock import Clock
from hubbub.model import Position, Publication
from hubbub.testing import BROKER_CHECKS, FakeClock, check_broker


class JournalBroker(MemoryBroker):  # yours: import it
    """Keeps the size of everything that was published."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.journal: list[tuple[str, int]] = []

    async def publish(self, channel: str, publication: Publication, **options: Any) -> Position:
        self.journal.append((channel, len(publication.data)))
        return await super().publish(channel, publication, **options)


def new_node(clock: Clock) -> Broker:
    return JournalBroker(clock)


@pytest.mark.asyncio
@pytest.mark.parametrize("guarantee", BROKER_CHECKS)
async def test_journal_broker_guarantees(guarantee: str) -> None:
    await check_broker(new_node, clock=FakeClock(), checks=[guarantee])
