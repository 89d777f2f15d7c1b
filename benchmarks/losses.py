"""Losses: subscribers that keep what they got, and come back as soon as they are dropped.

They and the publishers are clients as they should be: what is lost, the server lost.
"""
# redis comes with the dependency group "bench", which `make test` does not need.
# mypy: disable-error-code="import-not-found"

import math
import os
import select
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType, TracebackType
from typing import Any, Self

from benchmarks.client import Client
from benchmarks.dialects import Dialect, number_in, serialize_payload

__all__ = ["Audience", "Link", "Losses"]

RETRY = 0.05  # seconds after which a client that was refused tries again
SILENCE = 2.0  # so long nothing comes, and nothing more will: others retry after a second
PATIENCE = 30.0  # after the last publication
PUBLISHERS = 10


@dataclass(frozen=True, slots=True)
class Losses:
    """What became of publications.

    Attributes:
        offered: Publications that were sent to the server.
        acknowledged: Of these, by the server.
        expected: Deliveries of acknowledged publications that there should have been.
        lost: Of these, that never came.
        repeated: Deliveries that came before already.
        disordered: Deliveries after a later one of the same publisher.
        dropped: Connections or subscriptions that the server ended.
        seconds: From the first publication to the last delivery.
    """

    offered: int
    acknowledged: int
    expected: int
    lost: int
    repeated: int
    disordered: int
    dropped: int
    seconds: float


class Link:
    """The way to a broker that listens on a Unix socket, which can be cut."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._path = url.removeprefix("unix://")

    def kill(self) -> None:
        """Let the broker end all of its connections; new ones can be made at once."""
        import redis

        with redis.Redis.from_url(self._url) as broker:
            self._kill(broker)

    def cut(self) -> None:
        """End all connections, and let nobody find the broker."""
        import redis

        with redis.Redis.from_url(self._url) as broker:
            broker.ping()
            os.rename(self._path, f"{self._path}.away")
            self._kill(broker)

    def mend(self) -> None:
        """Let the broker be found again."""
        os.rename(f"{self._path}.away", self._path)

    def _kill(self, broker: Any) -> None:
        for kind in ("pubsub", "normal"):
            broker.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


class Returner:
    """A client that opens its connection again when it was dropped.

    client: `None`: it has none right now.
    """

    def __init__(self, number: int, port: int, dialect: Dialect, channel: str) -> None:
        self.client: Client | None = None
        self.numbers: list[int] = []
        self.drops = 0
        self.retry_at = 0.0
        self._number = number
        self._port = port
        self._dialect = dialect
        self._channel = channel
        self._stream = dialect.stream()

    def open(self) -> None:
        """Connect, and go on where the last connection ended, if that can be."""
        try:
            client = Client(self._number, self._port, self._dialect, self._channel, self._stream)
        except (OSError, ValueError):
            self.retry_at = time.monotonic() + RETRY
            return
        self.client = client
        self._keep(client.early())

    def read(self) -> list[bytes]:
        """Take what came to an open connection; for publishers, return the messages."""
        assert self.client is not None
        messages = []
        try:
            if self._channel:
                self._keep(self.client.recv())
            else:
                messages = self.client.recv_messages()
        except (OSError, ValueError):
            self.drop()
        return messages

    def drop(self) -> None:
        if self.client is not None:
            self.drops += 1
            self.client.socket.close()
            self.client = None

    def _keep(self, payloads: list[bytes]) -> None:
        self.numbers += [number_in(payload, 1) for payload in payloads]


class Audience:
    """Subscribers of a channel, and its publishers, which take turns."""

    def __init__(
        self, port: int, dialect: Dialect, channel: str, subscribers: int, size: int
    ) -> None:
        self._dialect = dialect
        self._channel = channel
        self._size = size
        self._poller = select.epoll()
        self._by_fd: dict[int, Returner] = {}
        self._subscribers = [
            Returner(number, port, dialect, channel) for number in range(subscribers)
        ]
        self._publishers = [
            Returner(subscribers + number, port, dialect, "") for number in range(PUBLISHERS)
        ]
        # What is in the acknowledgement, by number, by publisher.
        self._sent: list[dict[int, bytes]] = [{} for _ in self._publishers]
        self._acknowledged: set[int] = set()

    def __enter__(self) -> Self:
        self._reopen()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for each in (*self._subscribers, *self._publishers):
            if each.client is not None:
                each.client.socket.close()
        self._poller.close()

    def count_losses(
        self,
        publications: int,
        rate: float = math.inf,
        events: Mapping[int, Callable[[], None]] = MappingProxyType({}),
        silence: float = SILENCE,
    ) -> Losses:
        """Publish, call functions before the publications of these numbers, wait for deliveries.

        The end is when all is there that was acknowledged, and acknowledgements are not to be
        expected any more since nothing came for a quarter of `silence`, in seconds; or when nothing
        has come for all of it.
        """
        begin = time.monotonic()
        offered = 0
        for number in range(publications):
            if number in events:
                events[number]()
            due = begin + number / rate
            while (wait := due - time.monotonic()) > 0:
                self._read(wait)
            offered += self._publish(number)
        last = self._drain(silence)
        numbers = [each.numbers for each in self._subscribers]
        return Losses(
            offered=offered,
            acknowledged=len(self._acknowledged),
            expected=len(self._acknowledged) * len(numbers),
            lost=sum(len(self._acknowledged - set(got)) for got in numbers),
            repeated=sum(len(got) - len(set(got)) for got in numbers),
            disordered=sum(map(_disordered, numbers)),
            dropped=sum(each.drops for each in self._subscribers),
            seconds=last - begin,
        )

    def _publish(self, number: int) -> bool:
        payload = serialize_payload(number, self._size)
        publisher = number % PUBLISHERS
        client = self._publishers[publisher].client
        if client is None:
            return False
        try:
            client.send(self._dialect.publish(self._channel, number, payload))
        except OSError:
            return False  # `_read` will see that the connection is gone
        self._sent[publisher][number] = self._dialect.ack(number)
        return True

    def _drain(self, silence: float) -> float:
        """Read until all is there, or nothing comes; return when the last delivery came."""
        last = time.monotonic()
        deadline = last + PATIENCE
        before = self._totals()
        while (now := time.monotonic()) < deadline:
            if self._is_complete() and (not any(self._sent) or now > last + silence / 4):
                break  # who was not told yet that it is acknowledged, was told that it is not
            if now > last + silence:
                break
            self._read(RETRY)
            if (totals := self._totals()) != before:
                before, last = totals, time.monotonic()
        return last

    def _totals(self) -> tuple[int, int]:
        return sum(len(each.numbers) for each in self._subscribers), len(self._acknowledged)

    def _is_complete(self) -> bool:
        """Whether all is delivered that was acknowledged."""
        return all(
            len(each.numbers) >= len(self._acknowledged) and self._acknowledged <= set(each.numbers)
            for each in self._subscribers
        )

    def _read(self, timeout: float) -> None:
        """Wait so long for something, and take it; let the dropped come back."""
        self._reopen()
        for fd, _ in self._poller.poll(min(timeout, RETRY)):
            each = self._by_fd[fd]
            messages = each.read()
            if each in self._publishers:
                self._take_acks(each, messages)
            if each.client is None:
                del self._by_fd[fd]  # its end took it out of the poller too

    def _take_acks(self, publisher: Returner, messages: list[bytes]) -> None:
        sent = self._sent[self._publishers.index(publisher)]
        for message in messages:
            acknowledged = [number for number, ack in sent.items() if ack in message]
            for number in acknowledged:
                del sent[number]
            self._acknowledged.update(acknowledged)
        if publisher.client is None:
            sent.clear()  # nobody will say what became of them

    def _reopen(self) -> None:
        for each in (*self._subscribers, *self._publishers):
            if each.client is None and time.monotonic() >= each.retry_at:
                each.open()
                if each.client is not None:
                    fd = each.client.socket.fileno()
                    self._by_fd[fd] = each
                    self._poller.register(fd, select.EPOLLIN)


def _disordered(numbers: list[int]) -> int:
    by_publisher = [
        [number for number in numbers if number % PUBLISHERS == publisher]
        for publisher in range(PUBLISHERS)
    ]
    return sum(after < before for some in by_publisher for before, after in pairwise(some))
