"""The file of the SQLite broker: its settings, its tables, and what its failures mean."""

import os
import sqlite3
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from hubbub.errors import BrokerError

__all__ = ["Database", "Synchronous", "is_about_disk"]

Synchronous = Literal["full", "normal"]

APPLICATION_ID = 0x68756262
"""What tells our files from those of other programs: `hubb` (SQLite file format §1.3.16)."""

SCHEMA_VERSION = 1

SCHEMA = """
CREATE TABLE stream (
    channel TEXT NOT NULL PRIMARY KEY,
    id INTEGER NOT NULL,          -- of its publications; another one once they are dropped
    epoch TEXT NOT NULL,
    top INTEGER NOT NULL,         -- offset of the newest publication ever
    start INTEGER NOT NULL,       -- offset of the oldest one that is kept
    history_ends REAL NOT NULL,   -- Unix time when the publications expire
    ends REAL NOT NULL,           -- and epoch and offset
    version INTEGER NOT NULL,
    version_epoch TEXT NOT NULL,
    due REAL NOT NULL             -- when to see what has expired
) WITHOUT ROWID;
CREATE INDEX stream_due ON stream (due);
CREATE TABLE publication (
    stream INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    data BLOB NOT NULL,
    extra BLOB,                   -- MessagePack: publisher and tags
    delta INTEGER NOT NULL,
    time INTEGER NOT NULL,        -- Unix time in milliseconds
    PRIMARY KEY (stream, offset)
) WITHOUT ROWID;
CREATE TABLE result (             -- of publishing with an idempotency key
    id INTEGER PRIMARY KEY,       -- in the order of time
    channel TEXT NOT NULL,
    key TEXT NOT NULL,
    epoch TEXT NOT NULL,
    offset INTEGER NOT NULL,
    ends REAL NOT NULL,
    UNIQUE (channel, key)
);
CREATE TABLE garbage (            -- streams whose publications are to be deleted
    stream INTEGER PRIMARY KEY
);
CREATE TABLE probe (id INTEGER PRIMARY KEY, time REAL NOT NULL);
"""

# A whole check reads about a GB/s; no start is to wait for it longer than a moment.
CHECKED_SIZE = 64 * 1024 * 1024

# Pages of the log, 16 MB, after which they are written to the file. With SQLite's 1,000 publishing
# takes a tenth more CPU: what is published in many channels touches the same pages again and again.
CHECKPOINT_PAGES = 4_000

# Beyond it the log is cut after that.
LOG_SIZE = 64 * 1024 * 1024

DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Database:
    """A connection to the file. All methods block, and are called by one thread.

    The file is locked as long as it is open, so that what was read from it stays true.

    Attributes:
        damaged: Whether the file was found to be none of ours, or broken: nothing more is written.
    """

    def __init__(self, path: Path, *, synchronous: Synchronous, lock_timeout: float) -> None:
        self._path = path
        self._synchronous = synchronous
        self._lock_timeout = lock_timeout
        self._connection: sqlite3.Connection | None = None
        self._place = (0, 0)
        self.damaged = False

    def open(self) -> None:
        """Open the file, or make it.

        Raises:
            BrokerError: It cannot be used.
        """
        _check_place(self._path)
        try:
            self._connection = sqlite3.connect(
                self._path,
                timeout=self._lock_timeout,
                isolation_level=None,
                cached_statements=256,
            )
            self._set_up()
        except BaseException as exc:
            self.close()
            if isinstance(exc, sqlite3.Error):
                raise self.explain(exc) from exc
            raise

    def close(self) -> None:
        """Close the file. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # Closing writes what is in the log to the file; if that fails, the next opening does.
            with suppress(sqlite3.Error):
                connection.close()

    def _set_up(self) -> None:
        # Before the first access: then the log needs no memory shared with other processes.
        self.fetch("PRAGMA locking_mode=EXCLUSIVE")
        ((application, version, tables),) = self.fetch(
            "SELECT (SELECT application_id FROM pragma_application_id),"
            " (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_master)"
        )
        if application != APPLICATION_ID and (application or tables):
            raise BrokerError("sqlite", f"{str(self._path)!r} is a database of another program")
        if version > SCHEMA_VERSION:
            raise BrokerError(
                "sqlite",
                f"{str(self._path)!r} was written by a newer hubbub: its schema is {version}, "
                f"this one knows {SCHEMA_VERSION}",
            )
        if not tables:
            self.fetch("PRAGMA auto_vacuum=INCREMENTAL")
        self.fetch("PRAGMA journal_mode=WAL")
        self.fetch(f"PRAGMA synchronous={self._synchronous}")
        self.fetch(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        self.fetch(f"PRAGMA journal_size_limit={LOG_SIZE}")
        with self.transaction("EXCLUSIVE"):
            if not tables:
                for statement in SCHEMA.split(";\n"):
                    self.fetch(statement)
                self.fetch(f"PRAGMA application_id={APPLICATION_ID}")
                self.fetch(f"PRAGMA user_version={SCHEMA_VERSION}")
            self.probe(0.0)
        status = self._path.stat()
        self._place = (status.st_dev, status.st_ino)
        if status.st_size <= CHECKED_SIZE:
            found = self.fetch("PRAGMA quick_check(1)")
            if found != [("ok",)]:
                self.damaged = True
                raise BrokerError("sqlite", self._damage(str(found[0][0])))

    def verify(self) -> None:
        """See that the file is where it was, so that the next process will find it.

        Raises:
            BrokerError: It is not; nothing more is written to it.
        """
        try:
            status = self._path.stat()
            place = (status.st_dev, status.st_ino)
        except FileNotFoundError:
            place = None
        if place != self._place:
            self.damaged = True
            raise BrokerError("sqlite", f"{str(self._path)!r} was removed or replaced while in use")

    def fetch(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Execute a statement, and return its rows."""
        assert self._connection is not None, "open"
        return self._connection.execute(statement, parameters).fetchall()

    def change(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """Execute a statement, and return how many rows it changed."""
        assert self._connection is not None, "open"
        return self._connection.execute(statement, parameters).rowcount

    def put(self, statement: str, rows: Sequence[Sequence[Any]], after: str = "") -> None:
        """Execute a statement whose last part is `VALUES`, followed by as many rows as it takes.

        One statement of many rows instead of one for each: the thread gives up the interpreter's
        lock at each, and gets it back after up to 5 ms if the event loop is busy.
        """
        width = len(rows[0]) if rows else 1
        most = 900 // width
        row = "(" + ",".join("?" * width) + ")"
        for start in range(0, len(rows), most):
            some = rows[start : start + most]
            values = ",".join([row] * len(some))
            self.change(f"{statement} VALUES {values} {after}", _flat(some))

    @contextmanager
    def transaction(self, kind: str = "IMMEDIATE") -> Generator[None]:
        """Commit what is done within, or nothing of it if anything fails."""
        self.fetch(f"BEGIN {kind}")
        try:
            yield
            self.fetch("COMMIT")
        except BaseException:
            assert self._connection is not None, "open"
            if self._connection.in_transaction:  # SQLite may have ended it by itself
                self.fetch("ROLLBACK")
            raise

    def probe(self, now: float) -> None:
        """Write something, within a transaction."""
        self.fetch("INSERT OR REPLACE INTO probe VALUES (1, ?)", (now,))

    def explain(self, exc: Exception) -> BrokerError:
        """Say in an operator's words what a failure means."""
        if isinstance(exc, BrokerError):
            return exc
        code = getattr(exc, "sqlite_errorcode", 0)
        path = repr(str(self._path))
        match code & 0xFF:  # extended codes tell where it happened
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                problem = f"{path} is in use by another process, or by another hub of this one"
            case sqlite3.SQLITE_NOTADB:
                problem = f"{path} is not an SQLite database"
            case sqlite3.SQLITE_CORRUPT:
                problem = self._damage(str(exc))
            case sqlite3.SQLITE_FULL:
                problem = f"the disk of {path} is full"
            case sqlite3.SQLITE_READONLY:
                problem = f"{path} or its directory is read-only"
            case sqlite3.SQLITE_CANTOPEN:
                problem = f"{path} cannot be opened: {exc}"
            case sqlite3.SQLITE_IOERR:
                problem = f"the disk of {path} failed: {getattr(exc, 'sqlite_errorname', exc)}"
            case _:
                problem = f"{path}: {exc}"
        self.damaged = self.damaged or code & 0xFF in DAMAGED
        return BrokerError("sqlite", problem)

    def _damage(self, problem: str) -> str:
        return (
            f"{str(self._path)!r} is damaged ({problem}): restore a copy, or move it out of the way"
        )


def is_about_disk(exc: Exception) -> bool:
    """Whether any other write would fail like this one: not for what it writes."""
    code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_TOOBIG) & 0xFF
    return code not in {sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH}


def _flat(rows: Iterable[Sequence[Any]]) -> list[Any]:
    return [value for row in rows for value in row]


def _check_place(path: Path) -> None:
    """Refuse what SQLite would refuse in fewer words."""
    directory = path.parent
    if not directory.is_dir():
        raise BrokerError("sqlite", f"there is no directory {str(directory)!r}")
    if path.is_dir():
        raise BrokerError("sqlite", f"{str(path)!r} is a directory")
    effective = os.access in os.supports_effective_ids
    for place in (directory, path):  # the log is made beside the file
        if place.exists() and not os.access(place, os.R_OK | os.W_OK, effective_ids=effective):
            raise BrokerError("sqlite", f"{str(place)!r} is read-only, or not this user's")
