"""Every exception that hubbub raises on its own account, as one tree.

What a handler sees of its connection are the exceptions of `websockets`: `ConnectionClosed`,
`ConcurrencyError`, `ProtocolError` keep their names and meanings (ADR 0002).
"""

import json
from enum import IntEnum
from typing import Self

__all__ = [
    "BrokerError",
    "CommandError",
    "ConfigError",
    "Disconnect",
    "DisconnectCode",
    "ErrorCode",
    "FilterError",
    "HubbubError",
    "InvalidMessage",
    "InvalidToken",
    "KeysUnavailable",
    "PayloadError",
    "PermissionDenied",
    "PositionLost",
    "ProtocolViolation",
    "StartupError",
    "TokenError",
    "TokenExpired",
    "UnknownChannel",
    "UnsubscribeCode",
    "WriteLimitExceeded",
]


class HubbubError(Exception):
    """Base of all exceptions that hubbub defines."""


class ConfigError(HubbubError):
    """An operator's setting cannot be used.

    Attributes:
        option: Name of the setting, as the operator wrote it (`--port`, `HUBBUB_PORT`).
        problem: What is wrong with it and what would be right.
    """

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(f"{option}: {problem}")
        self.option = option
        self.problem = problem


class StartupError(HubbubError):
    """A part of the server could not start; nothing listens.

    Attributes:
        part: What failed: `http` is the ASGI application.
    """

    def __init__(self, part: str, problem: str) -> None:
        super().__init__(f"{part}: {problem}")
        self.part = part
        self.problem = problem


class WriteLimitExceeded(HubbubError):
    """A message was refused because the peer does not read fast enough.

    Attributes:
        buffered: Bytes that wait to be sent.
        limit: High-water mark in bytes, the `write_limit` option of `serve`.
    """

    def __init__(self, buffered: int, limit: int) -> None:
        super().__init__(f"{buffered} bytes wait to be sent, over write_limit={limit}")
        self.buffered = buffered
        self.limit = limit


class ProtocolViolation(HubbubError):
    """A client sent what the client protocol does not allow; its session ends with 3501.

    Attributes:
        problem: What is wrong. Nothing that the client sent is quoted in it.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class PayloadError(HubbubError):
    """A payload is not JSON, so that it cannot be carried to a client that speaks JSON.

    From a publisher it is refused with 107; what reaches a JSON client all the same ends that
    client's session with 3506.

    Attributes:
        problem: What is wrong with the payload. Nothing of it is quoted.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(f"payload is not JSON: {problem}")
        self.problem = problem


class FilterError(HubbubError):
    """A tags filter is malformed or too large; the command is answered with 107.

    Attributes:
        problem: What is wrong with the filter.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(f"tags filter: {problem}")
        self.problem = problem


class TokenError(HubbubError):
    """A token was not accepted.

    Attributes:
        problem: Why. Nothing of the token is quoted.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(f"token: {problem}")
        self.problem = problem


class TokenExpired(TokenError):
    """A token's time is over, or has not come: the client should get a new one (109)."""


class InvalidToken(TokenError):
    """A token is malformed, signed by nobody we know, or made for something else."""


class KeysUnavailable(TokenError):
    """The keys that tokens are checked with cannot be had now; the client may try again (100)."""


class BrokerError(HubbubError):
    """A broker cannot do its work.

    Attributes:
        broker: Which: `memory`, `sqlite`, `redis`.
        problem: What went wrong.
    """

    def __init__(self, broker: str, problem: str) -> None:
        super().__init__(f"{broker}: {problem}")
        self.broker = broker
        self.problem = problem


class PositionLost(HubbubError):
    """A subscriber in this process has missed publications, and cannot get them any more.

    Attributes:
        channel: Where.
        problem: Why.
    """

    def __init__(self, channel: str, problem: str) -> None:
        super().__init__(f"{channel!r}: {problem}")
        self.channel = channel
        self.problem = problem


class ErrorCode(IntEnum):
    """Codes of error replies; the connection stays (client protocol, error codes).

    Below 100 are the SDKs' own; applications use 400 to 1999.

    Attributes:
        message: What the reply says. Never empty: SDKs index it.
        temporary: The SDK may try the same again.
    """

    message: str
    temporary: bool

    def __new__(cls, code: int, message: str, temporary: bool = False) -> Self:
        """Make a member that is its code and knows its text."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.message = message
        member.temporary = temporary
        return member

    INTERNAL = 100, "internal server error", True
    UNAUTHORIZED = 101, "unauthorized"
    UNKNOWN_CHANNEL = 102, "unknown channel"
    PERMISSION_DENIED = 103, "permission denied"
    METHOD_NOT_FOUND = 104, "method not found"
    ALREADY_SUBSCRIBED = 105, "already subscribed"
    LIMIT_EXCEEDED = 106, "limit exceeded"
    BAD_REQUEST = 107, "bad request"
    NOT_AVAILABLE = 108, "not available"
    TOKEN_EXPIRED = 109, "token expired"
    EXPIRED = 110, "expired"
    TOO_MANY_REQUESTS = 111, "too many requests", True
    UNRECOVERABLE_POSITION = 112, "unrecoverable position"
    CONCURRENT_PAGINATION = 113, "concurrent pagination", True


class _ReasonedCode(IntEnum):
    """A table of codes that come with a reason."""

    reason: str

    def __new__(cls, code: int, reason: str) -> Self:
        """Make a member that is its code and knows its text."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.reason = reason
        return member

    @classmethod
    def reason_of(cls, code: int) -> str:
        """Return the text that belongs to a code; empty if the code is not in the table."""
        return next((member.reason for member in cls if member == code), "")


class DisconnectCode(_ReasonedCode):
    """Codes that end a session (client protocol, disconnect codes).

    3000 to 3499: the SDK reconnects. 3500 to 3999: it does not. Applications use 4000 to 4499 and
    4500 to 4999 alike.

    Attributes:
        reason: The text of the close frame. Never empty and never valid JSON: the JavaScript SDK
            reconnects after an empty reason and takes a JSON value for an order.
    """

    CONNECTION_CLOSED = 3000, "connection closed"  # never sent
    SHUTDOWN = 3001, "shutdown"
    INTERNAL = 3004, "internal server error"
    CONNECTION_EXPIRED = 3005, "connection expired"
    SUBSCRIPTION_EXPIRED = 3006, "subscription expired"
    SLOW = 3008, "slow"
    WRITE_ERROR = 3009, "write error"
    INSUFFICIENT_STATE = 3010, "insufficient state"
    FORCE_RECONNECT = 3011, "force reconnect"
    NO_PONG = 3012, "no pong"
    TOO_MANY_REQUESTS = 3013, "too many requests"
    STATE_INVALIDATED = 3014, "state invalidated"
    INVALID_TOKEN = 3500, "invalid token"
    BAD_REQUEST = 3501, "bad request"
    STALE = 3502, "stale"
    FORCE_DISCONNECT = 3503, "force disconnect"
    CONNECTION_LIMIT = 3504, "connection limit"
    CHANNEL_LIMIT = 3505, "channel limit"
    INAPPROPRIATE_PROTOCOL = 3506, "inappropriate protocol"
    PERMISSION_DENIED = 3507, "permission denied"
    NOT_AVAILABLE = 3508, "not available"
    TOO_MANY_ERRORS = 3509, "too many errors"

    @property
    def reconnects(self) -> bool:
        """Whether an SDK comes back by itself after this code."""
        return self < 3500


class UnsubscribeCode(_ReasonedCode):
    """Codes that end a subscription (client protocol, unsubscribe codes).

    Attributes:
        reason: What the push says. Never empty: SDKs index it.
    """

    CLIENT_UNSUBSCRIBED = 0, "client unsubscribed"  # never sent
    CLIENT_DISCONNECTED = 1, "client disconnected"  # never sent
    SERVER_UNSUBSCRIBED = 2000, "server unsubscribe"
    INSUFFICIENT_STATE = 2500, "insufficient state"
    SUBSCRIPTION_EXPIRED = 2501, "subscription expired"
    STATE_INVALIDATED = 2502, "state invalidated"

    @property
    def resubscribes(self) -> bool:
        """Whether an SDK subscribes again by itself after this code."""
        return self >= 2500


class CommandError(HubbubError):
    """A command failed, and its client is told so; the connection stays.

    Raise it in a hook to refuse what a client asks.

    Args:
        code: A member of `ErrorCode`, or a code of the application: 400 to 1999.
        message: For the client, never empty. `None`: the text of the `ErrorCode`.
        temporary: Whether the client may try the same again. `None`: as the `ErrorCode` says.

    Raises:
        ValueError: The code is out of range, or has no message.
    """

    def __init__(
        self, code: int, message: str | None = None, *, temporary: bool | None = None
    ) -> None:
        known = _ERROR_CODES.get(code)
        if known is None and not 400 <= code <= 1999:
            raise ValueError(f"an application's error code is 400 to 1999, not {code}")
        text = message if message is not None else known.message if known is not None else ""
        if not text:
            raise ValueError(f"error {code} needs a message: SDKs index it")
        super().__init__(f"{text} ({code})")
        self.code = int(code)
        self.message = text
        self.temporary = (
            temporary if temporary is not None else known is not None and known.temporary
        )


class UnknownChannel(CommandError):
    """No pattern of the hub matches a channel (102).

    Attributes:
        channel: Its name.
    """

    def __init__(self, channel: str) -> None:
        super().__init__(ErrorCode.UNKNOWN_CHANNEL)
        self.channel = channel
        self.args = (f"unknown channel {channel!r}: declare a pattern with hub.channel()",)


class PermissionDenied(CommandError):
    """A client may not do what it asks for (103).

    Args:
        message: For the client.
    """

    def __init__(self, message: str | None = None) -> None:
        super().__init__(ErrorCode.PERMISSION_DENIED, message)


class InvalidMessage(CommandError):
    """A payload does not fit the type of its channel or method (107).

    Args:
        problem: What is wrong, with the name of the field; clients see it.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(ErrorCode.BAD_REQUEST, f"bad request: {problem}")
        self.problem = problem


class Disconnect(HubbubError):
    """A client's session ends. Raise it in a hook to end it.

    Args:
        code: A member of `DisconnectCode`, or a code of the application: 4000 to 4499, after
            which SDKs reconnect, or 4500 to 4999, after which they do not.
        reason: At most 123 bytes of UTF-8. `None`: the text of the `DisconnectCode`.

    Raises:
        ValueError: The code is out of range, or the reason is empty, too long, or JSON, which
            the JavaScript SDK would take for an order.
    """

    def __init__(self, code: int, reason: str | None = None) -> None:
        known = _DISCONNECT_CODES.get(code)
        if known is None and not 4000 <= code <= 4999:
            raise ValueError(f"an application's disconnect code is 4000 to 4999, not {code}")
        text = reason if reason is not None else known.reason if known is not None else ""
        if not text or len(text.encode()) > MAX_REASON:
            raise ValueError(
                f"a disconnect reason has 1 to {MAX_REASON} bytes, not {len(text.encode())}"
            )
        if _is_json(text):
            raise ValueError(f"a disconnect reason must not be JSON: {text!r}")
        super().__init__(f"{text} ({int(code)})")
        self.code = int(code)
        self.reason = text


MAX_REASON = 123
"""Bytes of a close frame's reason (RFC 6455 §5.5)."""

_ERROR_CODES = {int(code): code for code in ErrorCode}
_DISCONNECT_CODES = {int(code): code for code in DisconnectCode}


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
