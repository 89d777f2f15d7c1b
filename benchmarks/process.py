"""Child processes pinned to a core, and what /proc says they used. Linux only."""

import ctypes
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = [
    "ChildFailed",
    "Cores",
    "Memory",
    "child",
    "choose_cores",
    "cpu_seconds",
    "last_words",
    "machine_cpu_seconds",
    "memory",
    "run_child",
    "serving",
]

ROOT = Path(__file__).parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None)


class ChildFailed(Exception):
    """A child did not start, did not end in time, or ended with an error; says its last words."""


@dataclass(frozen=True, slots=True)
class Cores:
    server: int
    load: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a process and its descendants: resident, proportional share, private."""

    rss: int
    pss: int
    uss: int


def choose_cores() -> Cores:
    """Take two cores, if possible not two threads of one; the same core twice if there is one."""
    allowed = sorted(os.sched_getaffinity(0))
    server = allowed[-1]
    siblings = Path(f"/sys/devices/system/cpu/cpu{server}/topology/thread_siblings_list")
    shared = _parse_cores(siblings.read_text()) if siblings.exists() else {server}
    apart = [core for core in allowed if core not in shared]
    return Cores(server, (apart or allowed)[0])


@contextmanager
def serving(command: Sequence[str], core: int) -> Generator[tuple[int, int], None, None]:
    """Start a server that prints its port as its first line; yield (pid, port); kill it."""
    with child(command, core) as (server, log):
        assert server.stdout is not None
        ready, _, _ = select.select([server.stdout], [], [], 20)
        line = server.stdout.readline() if ready else ""
        if not line.strip().isdigit():
            raise ChildFailed(f"no port from the server: {last_words(log) or line.strip()}")
        yield server.pid, int(line)


def run_child(command: Sequence[str], core: int, timeout: float) -> str:
    """Run a program to its end and return what it printed."""
    with child(command, core) as (program, log):
        try:
            output, _ = program.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise ChildFailed(f"no result within {timeout:.0f} s") from None
        if program.returncode:
            raise ChildFailed(last_words(log))
        return output


def cpu_seconds(pid: int) -> float:
    """CPU time so far, user and system, of a process with its threads and descendants.

    From the clock that the kernel keeps for each process, to the nanosecond; of children that
    have ended and were waited for, from /proc/PID/stat, in ticks of 10 ms.
    """
    seconds = 0.0
    for each in _process_tree(pid):
        # The clock's number as clock_getcpuclockid(3) has it: all threads, as the scheduler counts.
        seconds += time.clock_gettime((~each << 3) | 2)
        # The name may hold spaces and parentheses. Times of reaped children are fields 16 and 17
        # of proc(5).
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        seconds += sum(map(int, fields[13:15])) / TICKS
    return seconds


def machine_cpu_seconds() -> float:
    """CPU time so far that the whole machine spent on anything, stolen time included."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / TICKS


def memory(pid: int) -> Memory:
    """Memory of a process and its descendants, from /proc/PID/smaps_rollup."""
    rss = pss = uss = 0
    for each in _process_tree(pid):
        lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()[1:]
        sizes = {name: int(size.split()[0]) for name, size in (line.split(":") for line in lines)}
        rss += sizes["Rss"] * 1024
        pss += sizes["Pss"] * 1024
        uss += (sizes["Private_Clean"] + sizes["Private_Dirty"]) * 1024
    return Memory(rss, pss, uss)


@contextmanager
def child(
    command: Sequence[str], core: int
) -> Generator[tuple["subprocess.Popen[str]", IO[str]], None, None]:
    """Start a program on a core; yield it and its standard error; kill it and its family."""
    parent = os.getpid()

    def prepare() -> None:
        os.sched_setaffinity(0, {core})
        # Should the harness be killed, the kernel kills the child; unless that happened before.
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    with (
        tempfile.TemporaryFile("w+", errors="replace") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
            start_new_session=True,  # Ctrl+C reaches the harness alone, which ends the children
            preexec_fn=prepare,
        ) as started,
    ):
        try:
            yield started, log
        finally:
            _kill(started)


def _kill(started: "subprocess.Popen[str]") -> None:
    """End a child and whatever it started. SIGKILL: nothing under test has state to save."""
    with suppress(ProcessLookupError):  # it ended by itself, and so did all of its group
        os.killpg(started.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while started.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def _process_tree(pid: int) -> Generator[int, None, None]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for each in children.read_text().split():
            yield from _process_tree(int(each))


def last_words(log: IO[str]) -> str:
    """Return the last line that a child wrote to its standard error."""
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _parse_cores(text: str) -> set[int]:
    """Parse a list of cores as the kernel writes it, such as 0-1,4."""
    cores: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        cores.update(range(int(first), int(last or first) + 1))
    return cores
