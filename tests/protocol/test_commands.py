"""Which request of a command is executed, and what is a pong."""

from hypothesis import given
from hypothesis import strategies as st

from hubbub.protocol.commands import (
    Command,
    ConnectRequest,
    PingRequest,
    PublishRequest,
    RefreshRequest,
    SendRequest,
    SubRefreshRequest,
)
from tests.protocol.strategies import json_texts, messages

ORDER = [
    "connect",
    "subscribe",
    "unsubscribe",
    "publish",
    "presence",
    "presence_stats",
    "history",
    "rpc",
    "send",
    "refresh",
    "sub_refresh",
    "ping",
]


@given(messages(Command, json_texts(), depth=2))
def test_request_is_the_first_in_the_order_of_the_protocol(command: Command) -> None:
    present = [getattr(command, name) for name in ORDER if getattr(command, name) is not None]

    assert command.request is (present[0] if present else None)


@given(st.integers(0, 1), st.booleans(), st.booleans())
def test_pong_has_neither_id_nor_send(number: int, sends: bool, pings: bool) -> None:
    command = Command(
        number, send=SendRequest() if sends else None, ping=PingRequest() if pings else None
    )

    assert command.is_pong is (number == 0 and not sends)


def test_empty_requests_are_requests() -> None:
    assert Command(1, publish=PublishRequest()).request == PublishRequest()
    assert Command(1, connect=ConnectRequest(), refresh=RefreshRequest()).request == (
        ConnectRequest()
    )
    assert Command(1, sub_refresh=SubRefreshRequest()).request == SubRefreshRequest()
    assert Command(1).request is None
