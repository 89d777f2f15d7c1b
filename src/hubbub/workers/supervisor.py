"""The supervisor: keeps so many workers alive, and replaces them one by one when asked to.

    slot        one of the numbers from 1 to N, with listening sockets that are always the same
    worker      the process that serves a slot; its successor is ready before it is asked to stop

A worker that dies is replaced at once, and later each time it dies soon. The service as a whole
fails only in the beginning: a worker that says that it cannot start is right.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from hubbub.workers.assignment import Assignment
from hubbub.workers.sockets import ListeningSockets
from hubbub.workers.systemd import notify_ready, notify_reloading, notify_stopping
from hubbub.workers.worker import Worker, describe_exit, start_worker

__all__ = ["Supervisor"]

START_TIMEOUT: Final = 60.0
"""Seconds that a worker has to accept connections."""

QUICK: Final = 10.0
"""A worker that lived less, in seconds, makes the next one wait."""

FIRST_DELAY: Final = 0.5
MAX_DELAY: Final = 30.0
"""Seconds that the second successor in a row waits, doubled for each after it, up to a limit."""

START_ATTEMPTS: Final = 5
"""How often a worker may be killed in the beginning, before the service gives up."""

# Seconds that a slot may be empty while connections wait for it: then they are reset, and the
# other workers get the new ones.
MAX_GAP: Final = 2.0

logger = logging.getLogger("hubbub.workers")


@dataclass(eq=False, slots=True)
class _Slot:
    number: int
    worker: Worker | None = None
    quick_deaths: int = 0
    # Held by whoever puts a worker in.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Supervisor:
    """Supervises workers until it is stopped.

    Args:
        command: Starts a worker, with all its arguments.
        workers: How many.
        sockets: Where they listen; closed when they are asked to stop.
        environment: Of the workers.
        patience: Seconds that a worker has to stop, then it is killed.
        stop: Set when the service is to end: workers are asked to stop, and `run` returns.
    """

    def __init__(
        self,
        command: Sequence[str],
        workers: int,
        sockets: ListeningSockets,
        *,
        environment: Mapping[str, str],
        patience: float,
        stop: asyncio.Event,
    ) -> None:
        self._command = command
        self._sockets = sockets
        self._environment = environment
        self._patience = patience
        self._slots = [_Slot(number) for number in range(1, workers + 1)]
        self._alive: set[Worker] = set()
        self._stop = stop
        self._roll = asyncio.Event()

    def roll(self) -> None:
        """Replace all workers, one by one; once more if it is being done."""
        self._roll.set()

    def kill(self) -> None:
        """End all workers now. Callable from anywhere."""
        for worker in list(self._alive):
            worker.kill()

    async def run(self, on_ready: Callable[[], None]) -> int:
        """Supervise until asked to stop, or until the service turns out not to start.

        Args:
            on_ready: Called when all workers accept connections.

        Returns:
            The exit code for the whole service.
        """
        try:
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(self._serve(on_ready))
                asked = group.create_task(self._stop.wait())
                await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
                failed = serving.done() and not serving.cancelled()
                serving.cancel()
                asked.cancel()
            return serving.result() if failed else 0
        finally:
            notify_stopping()
            if self._stop.is_set():
                logger.info("stopping all workers; a second signal ends them at once")
            self._sockets.close()
            await self._stop_all()

    async def _serve(self, on_ready: Callable[[], None]) -> int:
        # One before the others: what is wrong with the application is said once.
        code = await self._start_first(self._slots[0])
        if code is not None:
            return code
        async with asyncio.TaskGroup() as group:
            starting = [group.create_task(self._start_first(slot)) for slot in self._slots[1:]]
        codes = [code for task in starting if (code := task.result()) is not None]
        if codes:
            return codes[0]
        on_ready()
        notify_ready()
        async with asyncio.TaskGroup() as group:
            for slot in self._slots:
                group.create_task(self._keep(slot, group))
            group.create_task(self._roll_when_asked(group))
        raise AssertionError  # unreachable: they go on until they are cancelled

    async def _start_first(self, slot: _Slot) -> int | None:
        """Fill a slot for the first time; return the exit code of a worker that cannot start."""
        for attempt in range(START_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_delay(attempt))
            worker = await self._launch(slot)
            if await self._is_ready(worker):
                slot.worker = worker
                return None
            await self._reap(worker)
            code = worker.code
            if code >= 0:
                return code or 1  # by itself: it has said why
            logger.error("worker %d %s before it was ready", slot.number, describe_exit(code))
        logger.error("giving up: %d workers in a row did not start", START_ATTEMPTS)
        return 128 - code  # as a shell shows it

    async def _keep(self, slot: _Slot, group: asyncio.TaskGroup) -> None:
        """Replace the worker of a slot, whenever it has ended or begun to stop by itself."""
        while True:
            worker = slot.worker
            assert worker is not None
            code = await worker.wait_going()
            async with slot.lock:
                if self._stop.is_set():
                    return
                if slot.worker is not worker:
                    continue  # it was replaced
                lived = monotonic() - worker.started
                self._report(worker, code)
                group.create_task(self._reap(worker))
                slot.quick_deaths = slot.quick_deaths + 1 if lived < QUICK else 0
                await self._refill(slot, group)

    async def _refill(self, slot: _Slot, group: asyncio.TaskGroup) -> None:
        """Put a new worker into a slot, however many attempts it takes."""
        while True:
            delay = _delay(slot.quick_deaths - 1)
            if delay > MAX_GAP:
                self._sockets.renew(slot.number)
            if delay:
                logger.warning("worker %d is started again in %g s", slot.number, delay)
                await asyncio.sleep(delay)
            slot.worker = await self._start(slot, group)
            if slot.worker is not None:
                return
            slot.quick_deaths += 1

    async def _roll_when_asked(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self._roll.wait()
            self._roll.clear()
            notify_reloading()
            logger.info("replacing all workers, one by one")
            if await self._replace_all(group):
                logger.info("all workers are replaced")
            notify_ready()

    async def _replace_all(self, group: asyncio.TaskGroup) -> bool:
        for slot in self._slots:
            async with slot.lock:
                old = slot.worker
                assert old is not None
                new = await self._start(slot, group)
                if new is None:
                    logger.error("no worker is replaced any more: the old ones go on")
                    return False
                slot.worker = new
                slot.quick_deaths = 0
            await self._reap(old)
        return True

    async def _start(self, slot: _Slot, group: asyncio.TaskGroup) -> Worker | None:
        """Start a worker for a slot; `None`: it did not get to accept connections."""
        try:
            worker = await self._launch(slot)
        except OSError as exc:
            logger.error("worker %d did not start: %s", slot.number, exc)
            return None
        if await self._is_ready(worker):
            return worker
        group.create_task(self._reap(worker))
        logger.error("worker %d (pid %d) did not start", slot.number, worker.pid)
        return None

    # Processes.

    async def _launch(self, slot: _Slot) -> Worker:
        fds = tuple(sock.fileno() for sock in self._sockets.of(slot.number))
        assignment = Assignment(slot.number, len(self._slots), fds)
        worker = await start_worker(self._command, assignment, self._environment)
        self._alive.add(worker)
        return worker

    async def _is_ready(self, worker: Worker) -> bool:
        try:
            async with asyncio.timeout(START_TIMEOUT):
                ready = await worker.wait_ready()
        except TimeoutError:
            logger.error("worker %d was not ready within %g s", worker.number, START_TIMEOUT)
            worker.kill()
            return False
        if ready:
            logger.info("worker %d (pid %d) is ready", worker.number, worker.pid)
        return ready

    async def _reap(self, worker: Worker) -> None:
        """Have a worker stop, if it has not already, and wait for its end."""
        if not await worker.stop(self._patience):
            logger.warning(
                "worker %d (pid %d) did not stop within %g s and was killed",
                worker.number,
                worker.pid,
                self._patience,
            )
        self._alive.discard(worker)

    async def _stop_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for worker in list(self._alive):
                if not worker.ready:
                    worker.terminate()  # it does not listen to us yet
                group.create_task(self._reap(worker))

    def _report(self, worker: Worker, code: int | None) -> None:
        if code is None or code == 0:
            logger.info("worker %d (pid %d) stops by itself", worker.number, worker.pid)
        else:
            logger.error("worker %d (pid %d) %s", worker.number, worker.pid, describe_exit(code))


def _delay(quick_deaths: int) -> float:
    """Return how many seconds the next one waits."""
    return 0.0 if quick_deaths <= 0 else min(MAX_DELAY, FIRST_DELAY * 2.0 ** (quick_deaths - 1))
