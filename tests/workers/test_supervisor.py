"""The supervisor with workers that are a few lines of Python."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hubbub.workers import supervisor as module
from hubbub.workers.assignment import Assignment
from hubbub.workers.sockets import ListeningSockets
from hubbub.workers.supervisor import Supervisor
from hubbub.workers.worker import start_worker
from tests.timing import MS
from tests.workers.service import until

# What `hubbub` does as a worker, in short: be ready, wait for the end of the tie, stop.
PRELUDE = """
import os, signal, socket, sys, time
def log(what):
    with open(sys.argv[1], "a") as file:
        print(what, os.getpid(), os.environ["HUBBUB_WORKER"], file=file)
tie = socket.socket(fileno=int(os.environ["HUBBUB_SUPERVISOR_FD"]))
"""
GOOD = (
    PRELUDE
    + """
log("ready"); tie.send(b"ready"); tie.recv(1); log("stopped")
"""
)
FAILING = (
    PRELUDE
    + """
log("started"); sys.exit(3)
"""
)
DYING = (
    PRELUDE
    + """
log("started"); os.kill(os.getpid(), signal.SIGKILL)
"""
)
STUBBORN = (
    PRELUDE
    + """
log("ready"); tie.send(b"ready"); time.sleep(60)
"""
)
# Good the first time, and whenever the file is gone.
FRAIL = (
    PRELUDE
    + """
if os.path.exists(sys.argv[1] + ".broken"):
    log("started"); os.kill(os.getpid(), signal.SIGKILL)
log("ready"); tie.send(b"ready"); tie.recv(1); log("stopped")
"""
)
# Its child keeps what it has inherited open.
FORKING = (
    PRELUDE
    + """
log("ready"); tie.send(b"ready")
if os.fork() == 0:
    time.sleep(1)
    os._exit(0)
tie.recv(1)
"""
)


@dataclass
class Trial:
    """A supervisor, and what its workers wrote down."""

    log: Path
    stop: asyncio.Event
    supervisor: Supervisor
    ready: list[None] = field(default_factory=list)
    code: int | None = None

    def said(self, what: str) -> list[int]:
        """Return the pids of those who said something."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [int(line.split()[1]) for line in lines if line.split()[0] == what]

    async def run(self) -> int:
        self.code = await self.supervisor.run(lambda: self.ready.append(None))
        return self.code


def trial(
    tmp_path: Path,
    program: str,
    *,
    workers: int = 2,
    patience: float = 5_000 * MS,
    sockets: ListeningSockets | None = None,
) -> Trial:
    log = tmp_path / "log"
    stop = asyncio.Event()
    supervisor = Supervisor(
        [sys.executable, "-IS", "-c", program, str(log)],
        workers,
        sockets or ListeningSockets(workers, None, []),
        environment=dict(os.environ),
        patience=patience,
        stop=stop,
    )
    return Trial(log, stop, supervisor)


@asynccontextmanager
async def running(test: Trial) -> AsyncGenerator[Trial]:
    """Run it in the block, from when all workers are ready."""
    async with asyncio.TaskGroup() as group:
        group.create_task(test.run())
        await until(lambda: test.ready)
        try:
            yield test
        finally:
            test.stop.set()


async def test_workers_are_ready_then_stopped(tmp_path: Path) -> None:
    async with running(trial(tmp_path, GOOD, workers=3)) as test:
        assert len(test.said("ready")) == 3
        assert test.said("stopped") == []
    assert sorted(test.said("stopped")) == sorted(test.said("ready"))
    assert test.code == 0
    numbers = {line.split()[2] for line in test.log.read_text().splitlines()}
    assert numbers == {"1/3", "2/3", "3/3"}


async def test_worker_that_cannot_start_is_asked_once_and_gives_its_code(tmp_path: Path) -> None:
    test = trial(tmp_path, FAILING, workers=3)

    assert await test.run() == 3
    assert len(test.said("started")) == 1
    assert test.ready == []


async def test_worker_killed_at_start_is_tried_again_a_few_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY", 0.001)
    test = trial(tmp_path, DYING)

    assert await test.run() == 128 + signal.SIGKILL
    assert len(test.said("started")) == module.START_ATTEMPTS


async def test_dead_worker_is_replaced_by_one_with_its_number(tmp_path: Path) -> None:
    async with running(trial(tmp_path, GOOD)) as test:
        victim = test.said("ready")[0]
        os.kill(victim, signal.SIGKILL)
        await until(lambda: len(test.said("ready")) == 3)
    lines = [line.split() for line in test.log.read_text().splitlines()]
    numbers = [number for what, _, number in lines if what == "ready"]

    assert numbers.count(numbers[0]) == 2
    assert victim not in test.said("stopped")


async def test_death_is_noticed_though_a_child_of_the_worker_lives(tmp_path: Path) -> None:
    async with running(trial(tmp_path, FORKING)) as test:
        os.kill(test.said("ready")[0], signal.SIGKILL)
        await until(lambda: len(test.said("ready")) == 3)


async def test_worker_that_dies_again_and_again_waits_and_is_never_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(module, "MAX_DELAY", 0.002)
    async with running(trial(tmp_path, FRAIL)) as test:
        broken = Path(f"{test.log}.broken")
        broken.touch()
        os.kill(test.said("ready")[0], signal.SIGKILL)
        await until(lambda: len(test.said("started")) > module.START_ATTEMPTS + 2)
        broken.unlink()
        await until(lambda: len(test.said("ready")) == 3)

    assert "is started again in 0.002 s" in caplog.text


async def test_queue_is_given_up_when_nobody_will_serve_it_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(module, "MAX_GAP", 0.0)
    renewed: list[int] = []

    class Sockets(ListeningSockets):
        def renew(self, number: int) -> None:
            renewed.append(number)

    async with running(trial(tmp_path, FRAIL, sockets=Sockets(2, None, []))) as test:
        broken = Path(f"{test.log}.broken")
        broken.touch()
        os.kill(test.said("ready")[0], signal.SIGKILL)
        await until(lambda: len(renewed) > 1)
        broken.unlink()

    assert set(renewed) == {1}


async def test_roll_replaces_each_after_its_successor_is_ready(tmp_path: Path) -> None:
    async with running(trial(tmp_path, GOOD)) as test:
        old = test.said("ready")
        test.supervisor.roll()
        await until(lambda: len(test.said("stopped")) == 2)
        assert sorted(test.said("stopped")) == sorted(old)
        said = [line.split()[0] for line in test.log.read_text().splitlines()]

        assert said == ["ready", "ready", "ready", "stopped", "ready", "stopped"]


async def test_roll_ends_at_the_first_that_does_not_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(trial(tmp_path, FRAIL)) as test:
        broken = Path(f"{test.log}.broken")
        broken.touch()
        test.supervisor.roll()
        await until(lambda: "no worker is replaced any more" in caplog.text)

        assert len(test.said("started")) == 1
        assert test.said("stopped") == []
        broken.unlink()
        test.supervisor.roll()
        await until(lambda: len(test.said("stopped")) == 2)


async def test_worker_that_does_not_stop_is_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(trial(tmp_path, STUBBORN, patience=50 * MS)) as test:
        pass

    assert "did not stop within" in caplog.text
    for pid in test.said("ready"):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_worker_that_is_never_ready_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "START_TIMEOUT", 0.05)
    monkeypatch.setattr(module, "START_ATTEMPTS", 1)

    assert await trial(tmp_path, PRELUDE + "time.sleep(60)").run() == 128 + signal.SIGKILL
    assert "worker 1 was not ready within 0.05 s" in caplog.text


async def test_stop_while_starting_does_not_wait_for_the_start(tmp_path: Path) -> None:
    test = trial(tmp_path, PRELUDE + "log('started'); time.sleep(60)")
    async with asyncio.TaskGroup() as group:
        group.create_task(test.run())
        await until(lambda: test.said("started"))
        test.stop.set()

    assert test.code == 0


async def test_kill_ends_all_at_once(tmp_path: Path) -> None:
    async with running(trial(tmp_path, STUBBORN, patience=60.0)) as test:
        test.stop.set()
        test.supervisor.kill()


@pytest.mark.parametrize(
    ("quick_deaths", "delay"), [(-1, 0.0), (0, 0.0), (1, 0.5), (2, 1.0), (3, 2.0), (50, 30.0)]
)
def test_delays_double_up_to_a_limit(quick_deaths: int, delay: float) -> None:
    assert module._delay(quick_deaths) == delay


@pytest.mark.parametrize("turns", range(6))
async def test_start_that_is_cancelled_leaves_nothing(tmp_path: Path, turns: int) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-IS", "-c", GOOD, str(log)]
    starting = asyncio.create_task(start_worker(command, Assignment(1, 1, ()), dict(os.environ)))
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    try:
        worker = await starting
    except asyncio.CancelledError:
        return  # what is left of it would fail the fixtures of every test
    await worker.stop(5_000 * MS)
