"""A channel's stream in the memory broker."""

from math import inf

from hubbub.brokers.agenda import NEVER
from hubbub.model import Position, Publication

__all__ = ["Stream", "moved"]


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
        compares = not version_epoch or version_epoch == self.version_epoch
        if compares and version <= self.version:
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
        publications = self.publications
        start, stop = self.start, len(publications)
        if since is not None:
            if since.epoch and since.epoch != self.epoch:
                return ()
            # The index of the first publication after `since`.
            after = since.offset - self.top + stop
            if reverse:
                stop = min(stop, after - 1)
            else:
                start = max(start, after)
        if limit is not None:
            if reverse:
                start = max(start, stop - limit)
            else:
                stop = min(stop, start + limit)
        if start >= stop:
            return ()
        page = publications[start:stop]
        if reverse:
            page.reverse()
        return tuple(page)


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
