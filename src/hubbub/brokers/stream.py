"""A channel's stream in the memory broker, and what all streams do alike."""

from math import inf
from random import Random
from string import ascii_letters

from hubbub.brokers.agenda import NEVER
from hubbub.model import Position, Publication

__all__ = [
    "IDEMPOTENCY_TTL",
    "UNUSED_TTL",
    "Stream",
    "follows",
    "make_epoch",
    "moved",
    "window",
]

IDEMPOTENCY_TTL = 300.0
"""Seconds that idempotency keys are remembered."""

UNUSED_TTL = 300.0
"""Seconds that the epoch of a stream is kept in which nothing was ever published, and to which
nobody is subscribed. There is nothing to lose in it, and clients may look at any number of
channels.
"""

EPOCH_LENGTH = 8


class Stream:
    """A channel's stream.

    The oldest publications leave a list in batches: `publications[:start]` are gone for readers.
    They are at most an eighth, so memory stays bounded, and a publication costs the same whatever
    the size. An empty deque would take 760 bytes of every channel that somebody once looked at.

    Attributes:
        top: Offset of the newest publication ever.
        publications: Their offsets are consecutive, up to `top`.
        publications_end: When they expire.
        ends: When epoch and offset are forgotten.
        version: Of the last publication that had one, with its `version_epoch`; 0: none had.
        queued: The second when the agenda has it.
    """

    __slots__ = (
        "channel",
        "ends",
        "epoch",
        "publications",
        "publications_end",
        "queued",
        "start",
        "top",
        "version",
        "version_epoch",
    )

    def __init__(self, channel: str, epoch: str) -> None:
        self.channel = channel
        self.queued = NEVER
        self.ends = inf
        self.publications: list[Publication] = []
        self.restart(epoch)

    def restart(self, epoch: str) -> None:
        """Begin anew."""
        self.epoch = epoch
        self.top = 0
        self.version = 0
        self.version_epoch = ""
        self.clear()

    def clear(self) -> None:
        """Drop the publications."""
        self.publications = []
        self.publications_end = inf
        self.start = 0

    def expire(self, now: float) -> float | None:
        """Drop what has expired, and say when more will; `None`: it is all over."""
        if now >= self.ends:
            return None
        if now >= self.publications_end:
            self.clear()
        return min(self.ends, self.publications_end)

    def accept(self, version: int, version_epoch: str) -> bool:
        """Take note of a version, if it is above the last one that it compares with."""
        if not follows(version, version_epoch, self.version, self.version_epoch):
            return False
        self.version, self.version_epoch = version, version_epoch
        return True

    def append(self, publication: Publication, size: int, ends: float) -> Publication:
        """Append a publication, trim to a size, and return what was appended."""
        self.top += 1
        publication = moved(publication, self.epoch, self.top)
        publications = self.publications
        publications.append(publication)
        self.publications_end = ends
        start = len(publications) - size
        if start > self.start:
            self.start = start
            if start * 8 >= len(publications):
                del publications[:start]
                self.start = 0
        return publication

    def read(
        self, since: Position | None, limit: int | None, reverse: bool
    ) -> tuple[Publication, ...]:
        """Read publications; the arguments are those of `Broker.history`."""
        if since is not None and since.epoch and since.epoch != self.epoch:
            return ()
        publications = self.publications
        before = self.top - len(publications)  # the offset before that of the first in the list
        first, end = window(before + self.start + 1, self.top, since, limit, reverse)
        if first >= end:
            return ()
        page = publications[first - before - 1 : end - before - 1]
        if reverse:
            page.reverse()
        return tuple(page)


def follows(version: int, version_epoch: str, last: int, last_epoch: str) -> bool:
    """Whether a publication's version is above the last one, or does not compare with it."""
    return version > last or bool(version_epoch and version_epoch != last_epoch)


def window(
    first: int, top: int, since: Position | None, limit: int | None, reverse: bool
) -> tuple[int, int]:
    """Say which offsets to read; the last arguments are those of `Broker.history`.

    Args:
        first: The oldest offset that is kept.

    Returns:
        The first of them, and the one after the last; none if that is not above the first.
    """
    end = top + 1
    if since is not None:
        if reverse:
            end = min(end, since.offset)
        else:
            first = max(first, since.offset + 1)
    if limit is not None:
        if reverse:
            first = max(first, end - limit)
        else:
            end = min(end, first + limit)
    return first, end


def make_epoch(random: Random) -> str:
    """Make the name of a new stream."""
    number = random.randrange(len(ascii_letters) ** EPOCH_LENGTH)
    letters = ""
    for _ in range(EPOCH_LENGTH):
        number, letter = divmod(number, len(ascii_letters))
        letters += ascii_letters[letter]
    return letters


def moved(publication: Publication, epoch: str, offset: int) -> Publication:
    """Copy a publication to another position."""
    return Publication(
        publication.data,
        publication.info,
        publication.tags,
        publication.delta,
        offset,
        epoch,
        publication.time,
    )
