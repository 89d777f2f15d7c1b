"""Child processes of the benchmarks: accounted, and always reaped."""

import os
import sys

import pytest

if sys.platform != "linux":
    pytest.skip("benchmarks read /proc", allow_module_level=True)

from benchmarks.process import ChildFailed, choose_cores, cpu_seconds, memory, run_child, serving

CORE = choose_cores().server

SERVER_WITH_CHILD = """
import subprocess, sys, time
busy = "import time\\nwhile time.process_time() < 0.3: pass\\nprint(flush=True)\\ntime.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie whose parent has ended waits for init, which is no process of ours.
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"


def test_server_is_pinned_and_its_children_are_counted() -> None:
    with serving([sys.executable, "-c", SERVER_WITH_CHILD], CORE) as (pid, child):
        assert {CORE} == os.sched_getaffinity(pid) == os.sched_getaffinity(child)
        assert cpu_seconds(pid) >= cpu_seconds(child) >= 0.25
        assert memory(pid).rss > memory(child).rss > 0


def test_server_and_its_children_end_with_an_error_in_the_block() -> None:
    with (
        pytest.raises(ZeroDivisionError),
        serving([sys.executable, "-c", SERVER_WITH_CHILD], CORE) as (pid, child),
    ):
        raise ZeroDivisionError

    assert not is_running(pid)
    assert not is_running(child)


def test_server_that_does_not_start_says_its_last_words() -> None:
    with (
        pytest.raises(ChildFailed, match="no luck"),
        serving([sys.executable, "-c", "raise SystemExit('no luck')"], CORE),
    ):
        raise AssertionError("unreachable: the server printed no port")


def test_program_that_takes_too_long_is_ended() -> None:
    with pytest.raises(ChildFailed, match="no result within 0 s"):
        run_child([sys.executable, "-c", "import time; time.sleep(60)"], CORE, timeout=0.2)


def test_program_that_fails_says_its_last_words() -> None:
    with pytest.raises(ChildFailed, match="ValueError: expected"):
        run_child([sys.executable, "-c", "raise ValueError('expected')"], CORE, timeout=60)
