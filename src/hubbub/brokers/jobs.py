"""What the SQLite broker asks of its thread: each job once, in a batch with others."""

import asyncio

from hubbub.brokers.base import Event
from hubbub.errors import BrokerError
from hubbub.model import History, Position, Publication

__all__ = ["Append", "Clear", "Job", "Pass", "Probe", "Read", "Release", "Sweep"]

NOWHERE = Position()


class Job:
    """One thing to do.

    Attributes:
        size: Bytes that it keeps in memory, about.
        error: Why it was not done; `None`: it was.
        done: Whoever waits for it; `None`: nobody.
    """

    __slots__ = ("done", "error", "size")

    def __init__(self) -> None:
        self.size = 0
        self.error: BrokerError | None = None
        self.done: asyncio.Future[None] | None = None


class Append(Job):
    """Append a publication to a channel's stream; the arguments are those of `Broker.publish`.

    Attributes:
        history_size: 0: it goes into no stream, it only has an idempotency key.
        now: When it was asked for, Unix time in seconds.
        accepted: Whether it is to be delivered.
        position: What `publish` returns.
    """

    __slots__ = (
        "accepted",
        "channel",
        "history_size",
        "history_ttl",
        "key",
        "meta_ttl",
        "now",
        "position",
        "publication",
        "version",
        "version_epoch",
    )

    def __init__(
        self,
        channel: str,
        publication: Publication,
        history_size: int,
        history_ttl: float,
        meta_ttl: float,
        key: str,
        version: int,
        version_epoch: str,
        now: float,
    ) -> None:
        super().__init__()
        self.size = len(publication.data)
        self.channel = channel
        self.publication = publication
        self.history_size = history_size
        self.history_ttl = history_ttl
        self.meta_ttl = meta_ttl
        self.key = key
        self.version = version
        self.version_epoch = version_epoch
        self.now = now
        self.accepted = False
        self.position = NOWHERE


class Read(Job):
    """Read a channel's stream; the arguments are those of `Broker.history`.

    Attributes:
        watched: Whether the node is subscribed to the channel.
        page: The result.
    """

    __slots__ = ("channel", "limit", "meta_ttl", "now", "page", "reverse", "since", "watched")

    def __init__(
        self,
        channel: str,
        since: Position | None,
        limit: int | None,
        reverse: bool,
        meta_ttl: float,
        watched: bool,
        now: float,
    ) -> None:
        super().__init__()
        self.channel = channel
        self.since = since
        self.limit = limit
        self.reverse = reverse
        self.meta_ttl = meta_ttl
        self.watched = watched
        self.now = now
        self.page: History | None = None


class Clear(Job):
    """Drop the publications of a stream."""

    __slots__ = ("channel",)

    def __init__(self, channel: str) -> None:
        super().__init__()
        self.channel = channel


class Release(Job):
    """Take note that nobody is subscribed to some channels any more."""

    __slots__ = ("channels", "now")

    def __init__(self, channels: list[str], now: float) -> None:
        super().__init__()
        self.channels = channels
        self.now = now


class Pass(Job):
    """Do nothing; its event is delivered in its turn."""

    __slots__ = ("channel", "event")

    def __init__(self, channel: str, event: Event) -> None:
        super().__init__()
        self.channel = channel
        self.event = event


class Sweep(Job):
    """Remove some of what has expired.

    Attributes:
        more: Whether there is more to remove.
    """

    __slots__ = ("more", "now")

    def __init__(self, now: float) -> None:
        super().__init__()
        self.now = now
        self.more = False


class Probe(Job):
    """Write something, to see whether that works again."""

    __slots__ = ("now",)

    def __init__(self, now: float) -> None:
        super().__init__()
        self.now = now
