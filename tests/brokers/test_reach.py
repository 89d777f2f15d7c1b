"""A broker for one process, in one of several workers."""

import pytest

from hubbub import ConfigError, Hub
from hubbub.brokers.memory import MemoryBroker
from hubbub.brokers.opening import check_reach
from tests.hub.brokers import RemoteBroker


@pytest.mark.parametrize("worker", ["", "1/1"])
def test_one_process_may_have_any_broker(worker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBBUB_WORKER", worker)
    check_reach(MemoryBroker())


async def test_hub_of_one_worker_among_several_refuses_a_broker_that_is_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HUBBUB_WORKER", "2/4")
    check_reach(RemoteBroker())
    with pytest.raises(ConfigError, match=r"--workers 4: the hub's broker \(MemoryBroker\) is for"):
        async with Hub("memory:"):
            pass
