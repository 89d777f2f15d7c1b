"""What helps to test programs that use hubbub, and brokers written for it."""

from hubbub.testing.client import HubClient, connect
from hubbub.testing.clock import FakeClock
from hubbub.testing.contract import BROKER_CHECKS, Check, check_broker
from hubbub.testing.trial import BrokerContractError, BrokerNode, BrokerTrial

__all__ = [
    "BROKER_CHECKS",
    "BrokerContractError",
    "BrokerNode",
    "BrokerTrial",
    "Check",
    "FakeClock",
    "HubClient",
    "check_broker",
    "connect",
]
