"""The streams of the SQLite broker: jobs in, one transaction for all that they change."""

import logging
from collections.abc import Iterable, Sequence
from math import inf
from random import Random

import msgspec

from hubbub.brokers.database import Database, is_about_disk
from hubbub.brokers.jobs import Append, Clear, Job, Probe, Read, Release, Sweep
from hubbub.brokers.stream import (
    IDEMPOTENCY_TTL,
    UNUSED_TTL,
    follows,
    make_epoch,
    moved,
    window,
)
from hubbub.errors import BrokerError
from hubbub.model import ClientInfo, History, Position, Publication

__all__ = ["Ledger"]

# Streams that are kept at hand, some 500 bytes each.
MAX_STREAMS = 10_000

# Streams that were used, and whose later end is not yet in the file: it is written by the next
# sweep, or when they are so many.
MAX_USED = 1_000

# What one sweep looks at or deletes at most, so that publications wait for it some milliseconds.
SWEPT_STREAMS, SWEPT_ROWS, SWEPT_PAGES = 200, 1_000, 200

# Old publications that are deleted from one stream at a time.
MAX_TRIMMED = 1_000

# Free pages within the file that it does not give back: they are soon in use again.
MIN_FREE_PAGES = 256

STREAM_COLUMNS = "id, epoch, top, start, history_ends, ends, version, version_epoch, due"

Key = tuple[str, str]
PageKey = tuple[str, Position | None, int | None, bool]


class Ledger:
    """Carries out jobs. All methods block, and are called by one thread.

    Args:
        max_streams: How many are kept at hand, so that using them again reads nothing.

    Attributes:
        outage: Why the last attempt to write failed; `None`: it did not.
    """

    def __init__(
        self, database: Database, random: Random, *, max_streams: int = MAX_STREAMS
    ) -> None:
        self.outage: str | None = None
        self._database = database
        self._random = random
        self._max_streams = max_streams
        self._logger = logging.getLogger("hubbub.brokers")
        self._next_id = 1
        self._streams: dict[str, _Stream] = {}  # the one used last at the end
        self._used: dict[str, _Stream] = {}
        # What the transaction will write.
        self._changed: dict[str, _Stream] = {}
        self._appended: list[tuple[_Stream, int, Publication]] = []
        self._garbage: list[int] = []
        self._results: dict[Key, tuple[Position, float]] = {}
        self._new_results: dict[Key, tuple[Position, float]] = {}

    def open(self, now: float) -> None:
        """Open the file.

        Raises:
            BrokerError: It cannot be used.
        """
        self._database.open()
        try:
            ((self._next_id,),) = self._database.fetch(
                "SELECT 1 + max(ifnull((SELECT max(id) FROM stream), 0),"
                " ifnull((SELECT max(stream) FROM garbage), 0))"
            )
            with self._database.transaction():
                # Nobody is subscribed yet.
                self._database.change(
                    "UPDATE stream SET ends = ?1, due = min(due, ?1) WHERE top = 0 AND ends > ?1",
                    (now + UNUSED_TTL,),
                )
        except Exception as exc:
            self._database.close()
            raise self._database.explain(exc) from exc

    def close(self) -> None:
        """Write what can wait no longer, and close the file."""
        if self._used and not self._database.damaged:
            try:
                with self._database.transaction():
                    self._flush()
            except Exception as exc:
                self._logger.warning("last uses of streams were not written: %s", exc)
        self._database.close()

    def run(self, jobs: Sequence[Job]) -> None:
        """Carry out jobs: what they write is committed, or their `error` is set."""
        reads = [job for job in jobs if isinstance(job, Read)]
        error = self._write(jobs)
        if error is None:
            self._read(reads)
        else:
            self._read_only(reads, error)
        for job in jobs:
            if isinstance(job, Sweep):
                job.more = self._sweep(job.now)
        while len(self._streams) > self._max_streams:
            del self._streams[next(iter(self._streams))]

    # Writing.

    def _write(self, jobs: Sequence[Job]) -> BrokerError | None:
        """Do what jobs want written, in one transaction; return why it failed."""
        try:
            if self._database.damaged:
                raise BrokerError("sqlite", self.outage or "the file is damaged")
            self._prepare(jobs)
            probes = [job.now for job in jobs if isinstance(job, Probe)]
            if (
                not probes
                and not self._changed
                and not self._new_results
                and len(self._used) <= MAX_USED
            ):
                return None
            with self._database.transaction():
                self._flush()
                if probes:
                    self._database.probe(probes[-1])
            self.outage = None
            self._settle()
        except Exception as exc:
            self._undo()
            if not is_about_disk(exc) and not isinstance(exc, BrokerError):
                return self._write_singly(jobs, exc)
            return self._fail(jobs, exc)
        return None

    def _write_singly(self, jobs: Sequence[Job], exc: Exception) -> BrokerError | None:
        """Find the job that cannot be written, so that the others are."""
        if len(jobs) > 1:
            error = None
            for job in jobs:
                error = self._write([job]) or error
            return error if self.outage else None
        self._logger.error("a job was refused", exc_info=exc)
        error = self._database.explain(exc)
        jobs[0].error = error
        return error

    def _fail(self, jobs: Iterable[Job], exc: Exception) -> BrokerError:
        error = self._database.explain(exc)
        if self.outage is None:
            self._logger.error("nothing can be written: %s", error.problem)
        self.outage = error.problem
        for job in jobs:
            job.error = error
        return error

    def _prepare(self, jobs: Sequence[Job]) -> None:
        keys = [(job.channel, job.key) for job in jobs if isinstance(job, Append) and job.key]
        if keys:
            self._find_results(keys)
        for job in jobs:
            match job:
                case Append():
                    self._append(job)
                case Read():
                    self._use(job)
                case Clear():
                    stream = self._known(job.channel)
                    if stream is not None:
                        self._clear(stream)
                case Release():
                    for channel in job.channels:
                        stream = self._known(channel)
                        if stream is not None and not stream.top:
                            self._end_by(stream, job.now + UNUSED_TTL)

    def _append(self, job: Append) -> None:
        key = (job.channel, job.key)
        if job.key:
            result = self._results.get(key)
            if result is not None and job.now < result[1]:
                job.position, job.accepted = result[0], False
                return
        job.accepted = True
        if job.history_size:
            stream = self._stream(job.channel, job.now, job.now + job.meta_ttl)
            if job.version:
                job.accepted = follows(
                    job.version, job.version_epoch, stream.version, stream.version_epoch
                )
            if job.accepted:
                if job.version:
                    stream.version, stream.version_epoch = job.version, job.version_epoch
                stream.top += 1
                stream.start = max(stream.start, stream.top - job.history_size + 1)
                stream.history_ends = job.now + job.history_ttl
                stream.look(min(stream.history_ends, stream.ends))
                job.publication = moved(job.publication, stream.epoch, stream.top)
                self._appended.append((stream, stream.id, job.publication))
                self._changed[job.channel] = stream
            job.position = Position(stream.epoch, stream.top)
        if job.key:
            self._results[key] = (job.position, job.now + IDEMPOTENCY_TTL)
            self._new_results[key] = self._results[key]

    def _use(self, job: Read) -> None:
        stream = self._stream(job.channel, job.now, job.now + job.meta_ttl)
        if not stream.top and not job.watched:
            self._end_by(stream, job.now + UNUSED_TTL)

    def _end_by(self, stream: "_Stream", ends: float) -> None:
        if ends < stream.ends:
            stream.ends = ends
            stream.look(ends)
            self._changed[stream.channel] = stream

    def _stream(self, channel: str, now: float, ends: float) -> "_Stream":
        """Find or make a stream as it is now, and prolong it."""
        stream = self._known(channel)
        if stream is None:
            stream = self._streams[channel] = _Stream(channel)
            self._restart(stream)
        elif now >= stream.ends:
            self._restart(stream)
        elif now >= stream.history_ends:
            self._clear(stream)
        stream.ends = ends
        stream.look(ends)
        self._used[channel] = stream
        return stream

    def _known(self, channel: str) -> "_Stream | None":
        """Find a stream, whatever has expired."""
        stream = self._streams.pop(channel, None)
        if stream is None:
            stream = self._used.get(channel) or self._load(channel)
        if stream is not None:
            self._streams[channel] = stream
        return stream

    def _load(self, channel: str) -> "_Stream | None":
        rows = self._database.fetch(
            f"SELECT {STREAM_COLUMNS},"  # noqa: S608 - a constant
            " (SELECT min(offset) FROM publication WHERE stream = stream.id)"
            " FROM stream WHERE channel = ?",
            (channel,),
        )
        if not rows:
            return None
        stream = _Stream(channel)
        (
            stream.id,
            stream.epoch,
            stream.top,
            stream.start,
            stream.history_ends,
            stream.ends,
            stream.version,
            stream.version_epoch,
            stream.due,
            floor,
        ) = rows[0]
        stream.floor = stream.top + 1 if floor is None else floor
        return stream

    def _restart(self, stream: "_Stream") -> None:
        self._discard(stream)
        stream.epoch = make_epoch(self._random)
        stream.top = 0
        stream.start = stream.floor = 1
        stream.version, stream.version_epoch = 0, ""
        self._changed[stream.channel] = stream

    def _clear(self, stream: "_Stream") -> None:
        self._discard(stream)
        stream.start = stream.floor = stream.top + 1
        self._changed[stream.channel] = stream

    def _discard(self, stream: "_Stream") -> None:
        """Leave the publications of a stream to sweeping, however many they are."""
        if stream.id and stream.floor <= stream.top:
            self._garbage.append(stream.id)
            stream.id = 0
        if not stream.id:
            stream.id = self._next_id
            self._next_id += 1
        stream.history_ends = inf

    # The transaction.

    def _flush(self) -> None:
        put = self._database.put
        put(
            "INSERT INTO publication (stream, offset, data, extra, delta, time)",
            [
                (
                    stream_id,
                    publication.offset,
                    publication.data,
                    _extra(publication),
                    publication.delta,
                    publication.time,
                )
                for stream, stream_id, publication in self._appended
                if stream_id == stream.id and publication.offset >= stream.start
            ],
        )
        # What needs another place among those that are due, and what does not.
        for moves in (False, True):
            put(
                f"INSERT INTO stream (channel, {STREAM_COLUMNS})",
                [
                    stream.row
                    for stream in {**self._used, **self._changed}.values()
                    if stream.moves is moves
                ],
                "ON CONFLICT DO UPDATE SET id = excluded.id, epoch = excluded.epoch,"
                " top = excluded.top, start = excluded.start,"
                " history_ends = excluded.history_ends, ends = excluded.ends,"
                " version = excluded.version, version_epoch = excluded.version_epoch"
                + (", due = excluded.due" if moves else ""),
            )
        self._trim()
        put(
            "INSERT OR REPLACE INTO result (channel, key, epoch, offset, ends)",
            [
                (channel, key, position.epoch, position.offset, ends)
                for (channel, key), (position, ends) in self._new_results.items()
            ],
        )
        put("INSERT INTO garbage", [(stream,) for stream in self._garbage])

    def _trim(self) -> None:
        """Delete what was pushed out, once it is an eighth of what is kept."""
        old: list[tuple[int, int]] = []
        for stream in self._changed.values():
            if stream.start - stream.floor > (stream.top - stream.start) // 8:
                end = min(stream.start, stream.floor + MAX_TRIMMED)
                old += ((stream.id, offset) for offset in range(stream.floor, end))
                stream.floor = end
        for start in range(0, len(old), 400):
            some = old[start : start + 400]
            values = ",".join(["(?,?)"] * len(some))
            self._database.change(
                f"DELETE FROM publication WHERE (stream, offset) IN (VALUES {values})",  # noqa: S608
                [value for row in some for value in row],
            )

    def _settle(self) -> None:
        """Take note that what was to be written is."""
        for stream in (*self._used.values(), *self._changed.values()):
            stream.moves = False
        self._used.clear()
        self._forget_changes()

    def _undo(self) -> None:
        """Know only what is in the file."""
        self._streams.clear()
        self._used.clear()
        self._forget_changes()

    def _forget_changes(self) -> None:
        self._changed.clear()
        self._appended.clear()
        self._garbage.clear()
        self._results.clear()
        self._new_results.clear()

    def _find_results(self, keys: list[Key]) -> None:
        for start in range(0, len(keys), 400):
            some = keys[start : start + 400]
            values = ",".join(["(?,?)"] * len(some))
            for channel, key, epoch, offset, ends in self._database.fetch(
                "SELECT channel, key, epoch, offset, ends FROM result"  # noqa: S608
                f" WHERE (channel, key) IN (VALUES {values})",
                [value for row in some for value in row],
            ):
                self._results[channel, key] = (Position(epoch, offset), ends)

    # Reading.

    def _read(self, jobs: Iterable[Read]) -> None:
        """Read pages, after the commit: nothing is read that may yet be undone."""
        pages: dict[PageKey, History] = {}
        for job in jobs:
            if job.error is None:
                try:
                    stream = self._known(job.channel)
                    assert stream is not None, "it was used in this batch"
                    self._read_page(job, stream, pages)
                except Exception as exc:
                    job.error = self._failed_reading(exc)

    def _read_only(self, jobs: Iterable[Read], error: BrokerError) -> None:
        """Read what is there, while nothing can be written."""
        for job in jobs:
            try:
                stream = None if self._database.damaged else self._load(job.channel)
                if stream is None or job.now >= stream.ends:
                    job.error = error
                    continue
                if job.now >= stream.history_ends:
                    stream.start = stream.top + 1
                self._read_page(job, stream, {})
                job.error = None
            except Exception as exc:
                job.error = self._failed_reading(exc)

    def _failed_reading(self, exc: Exception) -> BrokerError:
        error = self._database.explain(exc)
        if self._database.damaged:
            self._fail((), exc)
        return error

    def _read_page(self, job: Read, stream: "_Stream", pages: dict[PageKey, History]) -> None:
        # Many clients that come back at once ask for the same.
        key = (job.channel, job.since, job.limit, job.reverse)
        page = pages.get(key)
        if page is None:
            top = Position(stream.epoch, stream.top)
            publications: tuple[Publication, ...] = ()
            since = job.since
            if since is None or since.epoch in {"", stream.epoch}:
                first, end = window(stream.start, stream.top, since, job.limit, job.reverse)
                if first < end:
                    publications = self._publications(stream, first, end, job.reverse)
            page = pages[key] = History(publications, top)
        job.page = page

    def _publications(
        self, stream: "_Stream", first: int, end: int, reverse: bool
    ) -> tuple[Publication, ...]:
        rows = self._database.fetch(
            "SELECT offset, data, extra, delta, time FROM publication"  # noqa: S608
            f" WHERE stream = ? AND offset >= ? AND offset < ?"
            f" ORDER BY offset {'DESC' if reverse else ''}",
            (stream.id, first, end),
        )
        return tuple(
            Publication(data, *_parts(extra), bool(delta), offset, stream.epoch, time)
            for offset, data, extra, delta, time in rows
        )

    # Sweeping.

    def _sweep(self, now: float) -> bool:
        """Remove some of what has expired; say whether there is more."""
        if self._database.damaged or self.outage:
            return False
        try:
            self._database.verify()
            due = self._database.fetch(
                "SELECT channel FROM stream WHERE due <= ? ORDER BY due LIMIT ?",
                (now, SWEPT_STREAMS),
            )
            results = self._database.fetch(
                "SELECT id FROM result WHERE ends <= ? AND id <= (SELECT min(id) FROM result) + ?"
                " ORDER BY id DESC LIMIT 1",
                (now, SWEPT_ROWS),
            )
            garbage = self._database.fetch("SELECT stream FROM garbage LIMIT 1")
            if due or results or garbage or self._used:
                ended = self._look([channel for (channel,) in due], now)
                with self._database.transaction():
                    self._flush()
                    self._forget_streams(ended)
                    for (last,) in results:
                        self._database.change(
                            "DELETE FROM result WHERE id <= ? AND ends <= ?", (last, now)
                        )
                    for (stream,) in garbage:
                        self._delete(stream)
                self._settle()
            shrunk = self._shrink()
        except Exception as exc:
            self._undo()
            self._fail((), exc)
            return False
        return bool(len(due) == SWEPT_STREAMS or results or garbage or shrunk)

    def _look(self, channels: list[str], now: float) -> list["_Stream"]:
        """See what has expired of streams that are due; return those that are all over."""
        ended = []
        for channel in channels:
            stream = self._known(channel)
            assert stream is not None, "it is in the file"
            if now >= stream.ends:
                self._discard(stream)
                ended.append(stream)
                self._changed.pop(channel, None)
                self._used.pop(channel, None)
                del self._streams[channel]
                continue
            if now >= stream.history_ends:
                self._clear(stream)
            stream.due = min(stream.ends, stream.history_ends)
            stream.moves = True
            self._changed[channel] = stream
        return ended

    def _forget_streams(self, streams: Iterable["_Stream"]) -> None:
        for stream in streams:
            self._database.change("DELETE FROM stream WHERE channel = ?", (stream.channel,))

    def _delete(self, stream: int) -> None:
        """Delete publications that nobody can see."""
        deleted = self._database.change(
            "DELETE FROM publication WHERE stream = ?1 AND offset IN"
            " (SELECT offset FROM publication WHERE stream = ?1 ORDER BY offset LIMIT ?2)",
            (stream, SWEPT_ROWS),
        )
        if deleted < SWEPT_ROWS:
            self._database.change("DELETE FROM garbage WHERE stream = ?", (stream,))

    def _shrink(self) -> bool:
        """Give free pages back to the file system; say whether there are more."""
        ((free,),) = self._database.fetch("PRAGMA freelist_count")
        ((pages,),) = self._database.fetch("PRAGMA page_count")
        if free <= max(MIN_FREE_PAGES, pages // 4):
            return False
        self._database.fetch(f"PRAGMA incremental_vacuum({SWEPT_PAGES})")
        return True


class _Stream:
    """A channel's stream, as it will be in the file.

    Attributes:
        floor: Offset of the oldest publication in the file; below `start` they are trimmed.
        due: When a sweep looks at it.
        moves: Whether `due` is to be written too.
    """

    __slots__ = (
        "channel",
        "due",
        "ends",
        "epoch",
        "floor",
        "history_ends",
        "id",
        "moves",
        "start",
        "top",
        "version",
        "version_epoch",
    )

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.id = 0
        self.epoch = ""
        self.top = 0
        self.start = self.floor = 1
        self.history_ends = self.ends = self.due = inf
        self.version = 0
        self.version_epoch = ""
        self.moves = False

    @property
    def row(self) -> tuple[object, ...]:
        """What is written: the channel and `STREAM_COLUMNS`."""
        return (
            self.channel,
            self.id,
            self.epoch,
            self.top,
            self.start,
            self.history_ends,
            self.ends,
            self.version,
            self.version_epoch,
            self.due,
        )

    def look(self, due: float) -> None:
        """Have a sweep look at it, unless one does so before."""
        if due < self.due:
            self.due = due
            self.moves = True


class _Extra(msgspec.Struct, array_like=True, gc=False):
    """What few publications have."""

    info: ClientInfo | None
    tags: dict[str, str]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Extra).decode


def _extra(publication: Publication) -> bytes | None:
    if publication.info is None and not publication.tags:
        return None
    return _encode(_Extra(publication.info, dict(publication.tags)))


def _parts(extra: bytes | None) -> tuple[ClientInfo | None, dict[str, str]]:
    if extra is None:
        return None, {}
    parts = _decode(extra)
    return parts.info, parts.tags
