"""What modules say they export is there, and the public names are what the docs say."""

import importlib
import pkgutil

import pytest

import hubbub

MODULES = [
    module.name
    for module in pkgutil.walk_packages(hubbub.__path__, "hubbub.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_all_is_sorted_and_exists(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])

    assert len(exported) == len(set(exported))
    assert [item for item in exported if not hasattr(module, item)] == []


def test_public_names() -> None:
    assert hubbub.__all__ == [
        "BrokerError",
        "Channel",
        "ChannelOptions",
        "Client",
        "ClientInfo",
        "ClusterChannels",
        "CommandError",
        "ConfigError",
        "ConnectRequest",
        "ConnectionClosed",
        "ConnectionClosedError",
        "ConnectionClosedOK",
        "Disconnect",
        "DisconnectCode",
        "ErrorCode",
        "Grant",
        "History",
        "Hub",
        "HubbubError",
        "InvalidMessage",
        "Limits",
        "Listening",
        "NodeInfo",
        "PermissionDenied",
        "Position",
        "PositionLost",
        "PresenceStats",
        "Publication",
        "Server",
        "ServerConnection",
        "Tokens",
        "UnknownChannel",
        "UnsubscribeCode",
        "User",
        "WriteLimitExceeded",
        "__version__",
        "basic_auth",
        "broadcast",
        "serve",
        "unix_serve",
    ]
