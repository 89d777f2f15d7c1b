"""The broker of a single process whose streams outlive it: they are in an SQLite file."""

import logging
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random, SystemRandom
from urllib.parse import parse_qsl, unquote, urlsplit

from hubbub.brokers.base import Event, Receiver
from hubbub.brokers.database import Database, Synchronous
from hubbub.brokers.handover import HandOver
from hubbub.brokers.jobs import Append, Clear, Job, Pass, Probe, Read, Release, Sweep
from hubbub.brokers.ledger import Ledger
from hubbub.brokers.rooms import Rooms
from hubbub.brokers.stream import moved
from hubbub.brokers.writer import Writer
from hubbub.clock import Clock, SystemClock, Timer
from hubbub.errors import BrokerError, ConfigError
from hubbub.model import (
    ClientInfo,
    History,
    Join,
    Leave,
    Position,
    PresenceStats,
    Publication,
)

__all__ = ["SqliteBroker", "open_sqlite"]

SWEEP_INTERVAL = 10.0
"""Seconds between looks at what has expired."""

PROBE_INTERVAL = 1.0
"""Seconds between attempts to write, while nothing can be written."""

LOCK_TIMEOUT = 2.0
"""Seconds to wait for another process that is just leaving the file."""

MAX_VERSION = 2**63 - 1

NOWHERE = Position()


class SqliteBroker:
    """Keeps streams and idempotency keys in an SQLite file; presence is in this process.

    A publication is acknowledged and delivered after it was committed. All that is published in
    one tick of the loop, or while the last commit ran, is committed together. Times are those of
    the wall clock, since they go on while no process runs.

    While the disk refuses to be written, publishing with history raises `BrokerError`, reading and
    publishing without history go on, and `outage` says why; each publication and a probe every
    second see whether it works again. A damaged file is not written again.

    Args:
        path: Of the file; made if it is not there, with two others beside it while it is in use.
        synchronous: `full`: what was acknowledged survives a power failure. `normal`: it survives
            the end of the process, however sudden; a power failure may take the last moments.
        clock: Tells when entries expire.
        random: Where the names of epochs come from.
        lock_timeout: Seconds to wait on entering for another process that has the file.
    """

    local = False
    alone = True

    def __init__(
        self,
        path: str | Path,
        *,
        synchronous: Synchronous = "full",
        clock: Clock | None = None,
        random: Random | None = None,
        lock_timeout: float = LOCK_TIMEOUT,
    ) -> None:
        self._path = Path(path).absolute()  # wherever the process goes
        self._synchronous: Synchronous = synchronous
        self._clock: Clock = clock or SystemClock()
        self._random = random or SystemRandom()
        self._lock_timeout = lock_timeout
        self._hand_over = HandOver()
        self._rooms = Rooms(self._clock)
        self._ledger: Ledger | None = None
        self._writer: Writer | None = None
        self._timer: Timer | None = None
        self._sweeping = False
        self._outage: str | None = None
        self._logger = logging.getLogger("hubbub.brokers")

    @property
    def outage(self) -> str | None:
        """Why the last attempt to write failed."""
        return self._outage

    @property
    def waiting(self) -> int:
        """How many calls and deliveries wait for the disk."""
        return self._writer.waiting if self._writer is not None else 0

    @asynccontextmanager
    async def running(self, receiver: Receiver) -> AsyncGenerator[None]:
        """Open the file, and deliver to a receiver; on leaving, write what waits and close.

        Raises:
            BrokerError: On entering: the file cannot be used, or the broker is running already.
        """
        if self._writer is not None:
            raise BrokerError("sqlite", "it is running already")
        database = Database(
            self._path, synchronous=self._synchronous, lock_timeout=self._lock_timeout
        )
        self._ledger = Ledger(database, self._random)
        self._writer = writer = Writer(self._ledger, self._settle)
        try:
            await writer.start(self._clock.time())
            self._hand_over.start(receiver)
            self._rooms.start()
            self._sweeping = False
            self._set_timer()
            try:
                yield
            finally:
                self._stop_timer()
                await writer.stop()
        finally:
            self._hand_over.stop()
            self._rooms.stop()
            self._writer = self._ledger = self._outage = None

    async def subscribe(self, channels: Collection[str]) -> None:
        """Have what happens in the channels delivered. Idempotent."""
        self._hand_over.subscribed.update(channels)

    async def unsubscribe(self, channels: Collection[str]) -> None:
        """Have no more delivered. Idempotent."""
        self._hand_over.subscribed.difference_update(channels)
        self._running.put(Release(list(channels), self._clock.time()))

    async def publish(
        self,
        channel: str,
        publication: Publication,
        *,
        history_size: int = 0,
        history_ttl: float = 0.0,
        meta_ttl: float = 2_592_000.0,
        idempotency_key: str = "",
        version: int = 0,
        version_epoch: str = "",
    ) -> Position:
        """Append a publication to the channel's stream and deliver it, as one step.

        Raises:
            BrokerError: It was not written, and nothing is delivered.
            ValueError: The version is above what SQLite can hold.
        """
        kept = history_size > 0 and history_ttl > 0
        if not kept:
            history_size = 0
            if publication.offset or publication.epoch:
                publication = moved(publication, "", 0)
            if not idempotency_key:
                self._pass_on(channel, publication)
                return NOWHERE
        if version > MAX_VERSION:
            raise ValueError(f"version={version} is above {MAX_VERSION}, which SQLite can hold")
        job = Append(
            channel,
            publication,
            history_size,
            history_ttl,
            meta_ttl,
            idempotency_key,
            version,
            version_epoch,
            self._clock.time(),
        )
        await self._running.do(job)
        return job.position

    async def announce(self, channel: str, event: Join | Leave) -> None:
        """Deliver a join or leave, after what was published before."""
        self._pass_on(channel, event)

    async def history(
        self,
        channel: str,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
        meta_ttl: float = 2_592_000.0,
    ) -> History:
        """Read a channel's stream; the first use of a channel makes one.

        Raises:
            BrokerError: The file cannot be read; or there is no stream, and none can be made.
        """
        watched = channel in self._hand_over.subscribed
        job = Read(channel, since, limit, reverse, meta_ttl, watched, self._clock.time())
        await self._running.do(job)
        assert job.page is not None, "done without an error"
        return job.page

    async def remove_history(self, channel: str) -> None:
        """Drop the publications of a stream; epoch and offset stay.

        Raises:
            BrokerError: It was not written.
        """
        await self._running.do(Clear(channel))

    async def add_presence(
        self, channel: str, client: str, info: ClientInfo, ttl: float | None
    ) -> None:
        """Enter a client, or prolong its entry."""
        self._rooms.add(channel, client, info, ttl)

    async def remove_presence(self, channel: str, client: str) -> None:
        """Remove a client's entry. Idempotent."""
        self._rooms.remove(channel, client)

    async def presence(self, channel: str) -> Mapping[str, ClientInfo]:
        """Return who is in a channel, by client id: a snapshot."""
        return self._rooms.members(channel)

    async def presence_stats(self, channel: str) -> PresenceStats:
        """Count who is in a channel, in time proportional to the answer."""
        return self._rooms.stats(channel)

    async def send_control(self, message: bytes) -> None:
        """Give a message to `Receiver.control` of this node, the only one."""
        self._hand_over.control(message)

    @property
    def _running(self) -> Writer:
        if self._writer is None:
            raise BrokerError("sqlite", "it is not running")
        return self._writer

    def _pass_on(self, channel: str, event: Event) -> None:
        """Deliver what is not written, in its turn."""
        writer = self._running
        if not writer.waiting:
            self._hand_over.deliver(channel, event)
        elif channel in self._hand_over.subscribed:
            writer.put(Pass(channel, event))

    def _settle(self, jobs: Sequence[Job]) -> None:
        """Deliver what was committed; then those who wait are answered."""
        assert self._ledger is not None, "running"
        self._tell(self._ledger.outage)
        for job in jobs:
            match job:
                case Append():
                    if job.accepted and job.error is None:
                        self._deliver(job.channel, job.publication)
                case Pass():
                    self._deliver(job.channel, job.event)
                case Sweep():
                    self._sweeping = False
                    if job.more and self._timer is not None:  # else the broker is being left
                        self._sweep()

    def _deliver(self, channel: str, event: Event) -> None:
        try:
            self._hand_over.deliver(channel, event)
        except Exception:
            # Whoever published it is not to blame, and what others published is to come.
            self._logger.exception("a delivery failed")

    def _tell(self, outage: str | None) -> None:
        if outage == self._outage:
            return
        was, self._outage = self._outage, outage
        if was is None and self._timer is not None:
            self._set_timer()
        if outage is None:
            self._logger.warning("writing works again")

    def _set_timer(self) -> None:
        self._stop_timer()
        interval = SWEEP_INTERVAL if self._outage is None else PROBE_INTERVAL
        self._timer = self._clock.call_later(interval, self._wake)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _wake(self) -> None:
        if self._outage is not None:
            if not self.waiting:  # else that is the probe
                self._running.put(Probe(self._clock.time()))
        elif not self._sweeping:
            self._sweep()
        self._set_timer()

    def _sweep(self) -> None:
        """Have some removed, behind what has come meanwhile."""
        self._sweeping = True
        self._running.put(Sweep(self._clock.time()))


def open_sqlite(url: str, clock: Clock) -> SqliteBroker:
    """Return the broker that a URL names; nothing is opened yet.

    Args:
        url: `sqlite:///relative/path.db` or `sqlite:////absolute/path.db`, with `?synchronous=full`
            or `normal`. Odd characters of the path are percent-encoded.

    Raises:
        ConfigError: The URL is not one of these.
    """
    parts = urlsplit(url)
    path = unquote(parts.path.removeprefix("/"))
    if parts.netloc or parts.fragment or not parts.path.startswith("/") or not path:
        raise ConfigError(
            "broker",
            f"{url!r} should be 'sqlite:///relative/path.db' or 'sqlite:////absolute/path.db'",
        )
    if path == ":memory:":
        raise ConfigError("broker", f"{url!r} keeps nothing: 'memory:' does so faster")
    synchronous: Synchronous = "full"
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name != "synchronous":
            raise ConfigError("broker", f"{url!r} has a parameter {name!r}; known: synchronous")
        match value:
            case "full" | "normal":
                synchronous = value
            case _:
                raise ConfigError("broker", f"{url!r}: synchronous is 'full' or 'normal'")
    return SqliteBroker(path, synchronous=synchronous, clock=clock)
