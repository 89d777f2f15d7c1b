"""Dialects: how a client subscribes and publishes at each kind of server, as bytes.

Payloads are JSON strings of one size that carry a number behind a mark, the same for every server.
"""

import json
from typing import Protocol

from benchmarks.wire import BINARY, TEXT

__all__ = ["DIALECTS", "MARK", "Dialect", "Stream", "number_in", "serialize_payload"]

# Three bytes that no header of a frame and nothing else in a message can hold: to count them is to
# count payloads. They survive JSON as they are.
MARK = b"<#>"
DIGITS = 9


def serialize_payload(number: int, size: int) -> bytes:
    """Build a payload of exactly so many bytes."""
    return b'"%b"' % (b"%b%0*d" % (MARK, DIGITS, number)).ljust(size - 2, b".")


def number_in(data: bytes, mark: int) -> int:
    """Read the number behind the mark at this place; the payload may go on after it.

    Raises:
        ValueError: The data ends within the number.
    """
    digits = data[mark + len(MARK) : mark + len(MARK) + DIGITS]
    if len(digits) < DIGITS:
        raise ValueError("a number is cut off")
    return int(digits)


class Stream(Protocol):
    """What a subscriber receives, read carefully: for verification, not for speed.

    since: where a new connection has to go on from, for the greeting; empty: it cannot.
    """

    @property
    def since(self) -> bytes: ...

    def feed(self, message: bytes) -> list[bytes]:
        """Take a message; return the payloads that it delivers, as they were published.

        Raises:
            ValueError: The server ends the subscription, or refuses something.
        """


class Dialect(Protocol):
    """The ways of one kind of server. Messages are payloads of WebSocket frames.

    Attributes:
        opcode: Of the frames.
    """

    opcode: int

    def path(self, channel: str) -> str:
        """Return the path to connect to; without a channel, for a publisher."""

    def greeting(self, channel: str, since: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Return what to send after the upgrade, each with what is in the answer to it.

        An empty message is not sent: only its answer is awaited. since: of the stream to go on
        with.
        """

    def publish(self, channel: str, number: int, payload: bytes) -> bytes:
        """Return the message that publishes a payload; the number serves as an id."""

    def ack(self, number: int) -> bytes:
        """Return what is in the acknowledgement of a publication; empty: there is none."""

    def answer(self, message: bytes) -> bytes | None:
        """Return the answer to a ping of the dialect's own, `None` if it is none."""

    def stream(self) -> Stream:
        """Return a reader of one connection's messages."""


class Plain:
    """No protocol: a path subscribes, and a message is a channel, a space and the payload."""

    opcode = TEXT

    def path(self, channel: str) -> str:
        return f"/subscribe/{channel}" if channel else "/publish"

    def greeting(self, channel: str, since: bytes = b"") -> list[tuple[bytes, bytes]]:
        return []

    def publish(self, channel: str, number: int, payload: bytes) -> bytes:
        return b"%b %b" % (channel.encode(), payload)

    def ack(self, number: int) -> bytes:
        return b""

    def answer(self, message: bytes) -> bytes | None:
        return None

    def stream(self) -> Stream:
        return PlainStream()


class PlainStream:
    since = b""

    def feed(self, message: bytes) -> list[bytes]:
        return [message]


class Centrifuge:
    """The Centrifuge client protocol in JSON, which hubbub speaks."""

    opcode = TEXT

    def path(self, channel: str) -> str:
        return "/connection/websocket"

    def greeting(self, channel: str, since: bytes = b"") -> list[tuple[bytes, bytes]]:
        connect = b'{"id":1,"connect":{"name":"bench"}}'
        if not channel:
            return [(connect, b'"connect":')]
        subscribe = b'{"id":2,"subscribe":{"channel":"%b"%b}}' % (channel.encode(), since)
        return [(connect + b"\n" + subscribe, b'"subscribe":')]

    def publish(self, channel: str, number: int, payload: bytes) -> bytes:
        return b'{"id":%d,"publish":{"channel":"%b","data":%b}}' % (
            number + 3,
            channel.encode(),
            payload,
        )

    def ack(self, number: int) -> bytes:
        return b'{"id":%d,"publish":{}}' % (number + 3)

    def answer(self, message: bytes) -> bytes | None:
        return b"{}" if message == b"{}" else None

    def stream(self) -> Stream:
        return CentrifugeStream()


class CentrifugeStream:
    """Payloads of pushes, and of subscribe replies what was recovered."""

    def __init__(self) -> None:
        self._epoch = ""
        self._offset = 0

    @property
    def since(self) -> bytes:
        if not self._epoch:
            return b""
        position = (self._epoch.encode(), self._offset)
        return b',"recover":true,"recoverable":true,"epoch":"%b","offset":%d' % position

    def feed(self, message: bytes) -> list[bytes]:
        payloads = []
        for line in message.split(b"\n"):
            reply = json.loads(line)
            push = reply.get("push", {})
            if "error" in reply or "unsubscribe" in push or "disconnect" in push:
                raise ValueError(f"the server refuses: {line[:100]!r}")
            publications = [push["pub"]] if "pub" in push else []
            if subscribe := reply.get("subscribe"):
                if subscribe.get("was_recovering") and not subscribe.get("recovered"):
                    raise ValueError(f"not recovered: {line[:100]!r}")
                publications = subscribe.get("publications", [])
                self._epoch = subscribe.get("epoch", "")
                self._offset = subscribe.get("offset", 0)
            for each in publications:
                self._offset = each.get("offset", 0)
                payloads.append(json.dumps(each["data"]).encode())
        return payloads


class Nats:
    """NATS over WebSocket: its text protocol in binary frames."""

    opcode = BINARY

    def path(self, channel: str) -> str:
        return "/"

    def greeting(self, channel: str, since: bytes = b"") -> list[tuple[bytes, bytes]]:
        options = b'{"verbose":false,"pedantic":false,"lang":"bench","version":"1","protocol":1}'
        subscribe = b"SUB %b 1\r\n" % channel.encode() if channel else b""
        return [(b"", b"INFO "), (b"CONNECT %b\r\n%bPING\r\n" % (options, subscribe), b"PONG\r\n")]

    def publish(self, channel: str, number: int, payload: bytes) -> bytes:
        return b"PUB %b %d\r\n%b\r\n" % (channel.encode(), len(payload), payload)

    def ack(self, number: int) -> bytes:
        return b""

    def answer(self, message: bytes) -> bytes | None:
        return b"PONG\r\n" if message == b"PING\r\n" else None

    def stream(self) -> Stream:
        return NatsStream()


class NatsStream:
    """Protocol lines and payloads, which do not care for frames."""

    since = b""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, message: bytes) -> list[bytes]:
        self._pending += message
        payloads = []
        while b"\r\n" in self._pending:
            line, _, rest = self._pending.partition(b"\r\n")
            if line.startswith(b"MSG "):
                size = int(line.rpartition(b" ")[2])
                if len(rest) < size + 2:
                    break
                payloads.append(rest[:size])
                rest = rest[size + 2 :]
            elif line.startswith(b"-ERR"):
                raise ValueError(f"NATS says {line!r}")
            self._pending = rest
        return payloads


class SocketIO:
    """Socket.IO over Engine.IO 4, on a WebSocket from the start."""

    opcode = TEXT

    def path(self, channel: str) -> str:
        return "/socket.io/?EIO=4&transport=websocket"

    def greeting(self, channel: str, since: bytes = b"") -> list[tuple[bytes, bytes]]:
        opening = [(b"", b'0{"sid"'), (b"40", b'40{"sid"')]
        subscribe = b'421["subscribe","%b"]' % channel.encode()
        return [*opening, (subscribe, b'431["ok"]')] if channel else opening

    def publish(self, channel: str, number: int, payload: bytes) -> bytes:
        return b'42%d["publish","%b",%b]' % (number + 3, channel.encode(), payload)

    def ack(self, number: int) -> bytes:
        return b'43%d["ok"]' % (number + 3)

    def answer(self, message: bytes) -> bytes | None:
        return b"3" if message == b"2" else None

    def stream(self) -> Stream:
        return SocketIOStream()


class SocketIOStream:
    since = b""

    def feed(self, message: bytes) -> list[bytes]:
        if not message.startswith(b"42"):
            return []
        event, data = json.loads(message[2:])
        return [json.dumps(data).encode()] if event == "message" else []


class Channels:
    """The chat of the tutorial of Django Channels, with an acknowledgement for the publisher."""

    opcode = TEXT

    def path(self, channel: str) -> str:
        return f"/subscribe/{self._group(channel)}" if channel else "/publish"

    def greeting(self, channel: str, since: bytes = b"") -> list[tuple[bytes, bytes]]:
        return []  # the upgrade is answered once the group is joined

    def publish(self, channel: str, number: int, payload: bytes) -> bytes:
        group = self._group(channel).encode()
        return b'{"id": %d, "group": "%b", "message": %b}' % (number, group, payload)

    def ack(self, number: int) -> bytes:
        return b'{"ack": %d}' % number

    def answer(self, message: bytes) -> bytes | None:
        return None

    def stream(self) -> Stream:
        return ChannelsStream()

    def _group(self, channel: str) -> str:
        return channel.replace(":", ".")  # names of groups may not have a colon


class ChannelsStream:
    since = b""

    def feed(self, message: bytes) -> list[bytes]:
        data = json.loads(message)
        return [json.dumps(data["message"]).encode()] if "message" in data else []


DIALECTS: dict[str, Dialect] = {
    "plain": Plain(),
    "centrifuge": Centrifuge(),
    "nats": Nats(),
    "socketio": SocketIO(),
    "channels": Channels(),
}
