"""The thread of the SQLite broker: batches go there, and come back done."""

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence

from hubbub.brokers.jobs import Job, Read
from hubbub.brokers.ledger import Ledger
from hubbub.errors import BrokerError

__all__ = ["MAX_WAITING", "Writer"]

MAX_WAITING = 64 * 1024 * 1024
"""Bytes of publications that may wait for the disk; one more is refused."""

# What one batch has at most, so that what came after it does not wait for long: all of it is
# written in one transaction; reading a page takes as long as writing many publications.
MAX_JOBS, MAX_READS, MAX_BYTES = 1_000, 64, 8 * 1024 * 1024

OVERHEAD = 300
"""Bytes that a job takes beside its payload."""

STOP_TIMEOUT = 10.0
"""Seconds that a disk may take to write what waits, when the broker is left."""


class Writer:
    """Has a ledger carry out jobs in a thread of its own, all of a loop's tick in one batch.

    What comes while a batch is on its way waits for the next one: under load each commit carries
    many publications. All methods are called in the event loop.

    Args:
        settle: Called in the loop with each batch that was carried out, in order.
    """

    def __init__(self, ledger: Ledger, settle: Callable[[Sequence[Job]], object]) -> None:
        self._ledger = ledger
        self._settle = settle
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Job] = deque()
        self._bytes = 0
        self._travelling: Sequence[Job] = ()
        self._scheduled = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._batches: queue.SimpleQueue[Sequence[Job] | None] = queue.SimpleQueue()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._logger = logging.getLogger("hubbub.brokers")

    @property
    def waiting(self) -> int:
        """How many jobs are yet to be done; 0: what needs no writing is in its turn."""
        return len(self._waiting) + len(self._travelling)

    async def start(self, now: float) -> None:
        """Start the thread, and open the file in it.

        Raises:
            BrokerError: The file cannot be used.

        Cancelled: the thread ends by itself.
        """
        self._thread = threading.Thread(
            target=self._work, args=(now,), name="hubbub sqlite", daemon=True
        )
        self._thread.start()
        try:
            await self._opened
        except BaseException:
            await self._end()
            raise

    async def stop(self) -> None:
        """Carry out what waits, close the file, end the thread; not for longer than 10 s."""
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await self._idle.wait()
        except TimeoutError:
            self._logger.error(
                "the disk took longer than %s s: %d jobs were given up",
                STOP_TIMEOUT,
                self.waiting,
            )
        finally:
            await self._end()

    def put(self, job: Job) -> None:
        """Have a job carried out, in the order of the calls.

        Raises:
            BrokerError: Too much waits already.
        """
        size = job.size + OVERHEAD
        if self._bytes + size > MAX_WAITING and job.size:
            raise BrokerError(
                "sqlite",
                f"the disk is too slow: {self._bytes} bytes wait to be written, of at most "
                f"{MAX_WAITING}",
            )
        if self._stopped:
            raise BrokerError("sqlite", "stopped")
        self._bytes += size
        self._waiting.append(job)
        self._idle.clear()
        self._schedule()

    async def do(self, job: Job) -> None:
        """Have a job carried out, and wait for it.

        Raises:
            BrokerError: It was not.

        Cancelled: it is carried out all the same.
        """
        job.done = self._loop.create_future()
        self.put(job)
        await job.done

    def _schedule(self) -> None:
        # At the end of the tick, when everybody who was woken by the last batch has had a turn.
        if not self._scheduled and not self._travelling and self._waiting:
            self._scheduled = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._scheduled = False
        batch: list[Job] = []
        size = reads = 0
        while self._waiting and len(batch) < MAX_JOBS and size < MAX_BYTES and reads < MAX_READS:
            job = self._waiting.popleft()
            batch.append(job)
            size += job.size
            reads += isinstance(job, Read)
        self._travelling = batch
        self._batches.put(batch)

    def _return(self, batch: Sequence[Job]) -> None:
        """Take a batch from the thread."""
        self._bytes -= sum(job.size + OVERHEAD for job in batch)
        try:
            self._settle(batch)
        finally:
            self._travelling = ()
            for job in batch:
                _answer(job)
            self._schedule()
            if not self.waiting:
                self._idle.set()

    async def _end(self) -> None:
        """End the thread, if it can be; nobody waits any more for what it has not done."""
        self._stopped = True
        self._batches.put(None)
        stopped = BrokerError("sqlite", "stopped")
        for job in (*self._travelling, *self._waiting):
            job.error = job.error or stopped
            _answer(job)
        self._waiting.clear()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await self._closed
        except TimeoutError:
            return  # said above; the thread dies with the process, or when the disk answers
        assert self._thread is not None, "started"
        self._thread.join()  # it has nothing left to do but to return

    # In the thread.

    def _work(self, now: float) -> None:
        try:
            self._ledger.open(now)
        except Exception as exc:
            self._call(_fail, self._opened, exc)
        else:
            self._call(_succeed, self._opened)
            while (batch := self._batches.get()) is not None:
                self._carry_out(batch)
                self._call(self._return, batch)
                del batch  # not to be kept until the next one
            self._ledger.close()
        self._call(_succeed, self._closed)

    def _carry_out(self, batch: Sequence[Job]) -> None:
        try:
            self._ledger.run(batch)
        except Exception as exc:
            # A bug of ours: whoever waits hears of it, and the thread lives.
            self._logger.exception("a batch failed")
            for job in batch:
                job.error = BrokerError("sqlite", f"internal error: {exc!r}")

    def _call(self, function: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            # The loop is closed, so nobody waits.
            self._batches.put(None)


def _answer(job: Job) -> None:
    done = job.done
    if done is None or done.done():
        return
    if job.error is None:
        done.set_result(None)
    else:
        done.set_exception(job.error)


def _succeed(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], exc: Exception) -> None:
    if not future.done():
        future.set_exception(exc)
