"""The embedded broker: its directory, its deaths, and that it never stays behind."""

import asyncio
import contextlib
import importlib.util
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
import redis

from hubbub.errors import BrokerError
from hubbub.workers import tether
from hubbub.workers.embedded import PREFIX, EmbeddedBroker, find_server
from tests.cli.commands import TIMEOUT
from tests.servers.valkey import find_redis, find_valkey
from tests.timing import MS
from tests.workers.service import until, wait_gone


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files are, with a short path."""
    path = tmp_path_factory.mktemp("e")
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


@pytest.fixture(params=["valkey", "redis"])
def program(request: pytest.FixtureRequest) -> Path:
    return find_valkey() if request.param == "valkey" else find_redis()


def client(broker: EmbeddedBroker) -> "redis.Redis":
    path = broker.url.removeprefix("unix://").partition("?")[0]
    return redis.Redis(unix_socket_path=path, socket_timeout=TIMEOUT)


async def test_it_is_private_and_leaves_nothing(program: Path, temporary: Path) -> None:
    broker = EmbeddedBroker(program)
    await broker.start()
    (directory,) = temporary.iterdir()
    with client(broker) as connection:
        assert connection.config_get("port")["port"] == "0"
        assert connection.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    pid = broker.pid
    await broker.stop()
    await broker.stop()

    assert list(temporary.iterdir()) == []
    assert pid is not None
    assert not psutil.pid_exists(pid)


async def test_killed_server_is_started_again_with_its_data(program: Path, temporary: Path) -> None:
    broker = EmbeddedBroker(program)
    await broker.start()
    keeping = asyncio.create_task(broker.keep())
    try:
        with client(broker) as connection:
            connection.set("a", "1")
        before = broker.pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        await until(lambda: broker.pid != before)
        await until(lambda: answers(broker))
        with client(broker) as connection:
            assert connection.get("a") == b"1"
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
        await broker.stop()


async def test_server_that_cannot_read_its_data_begins_without(
    temporary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = EmbeddedBroker(find_valkey())
    await broker.start()
    keeping = asyncio.create_task(broker.keep())
    try:
        with client(broker) as connection:
            connection.set("a", "1")
        (log,) = temporary.glob(f"{PREFIX}*/appendonlydir/*.incr.aof")
        log.write_bytes(b"*nonsense\r\n" * 100)
        before = broker.pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        await until(lambda: "begins without its data" in caplog.text and answers(broker))
        with client(broker) as connection:
            assert connection.get("a") is None
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
        await broker.stop()


def answers(broker: EmbeddedBroker) -> bool:
    try:
        with client(broker) as connection:
            return bool(connection.ping())
    except redis.RedisError:
        return False


async def test_program_that_is_no_server_is_an_error(temporary: Path) -> None:
    with pytest.raises(BrokerError, match="false: ended with code 1"):
        await EmbeddedBroker(Path("/bin/false")).start()

    assert list(temporary.iterdir()) == []


async def test_long_path_is_an_error_that_names_the_variable(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = temporary / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(BrokerError, match="longer than 103 bytes: set TMPDIR"):
        await EmbeddedBroker(find_valkey()).start()

    assert list(long.iterdir()) == []


async def test_directories_of_killed_supervisors_are_removed(temporary: Path) -> None:
    first = EmbeddedBroker(find_valkey())
    await first.start()
    (used,) = temporary.iterdir()
    abandoned, young = temporary / f"{PREFIX}old", temporary / f"{PREFIX}young"
    for directory in (abandoned, young):
        directory.mkdir()
    for directory in (abandoned, used):
        os.utime(directory, (0, 0))
    second = EmbeddedBroker(find_valkey())
    await second.start()
    left = set(temporary.iterdir())
    await second.stop()
    await first.stop()

    assert used in left
    assert young in left
    assert abandoned not in left


def test_server_of_the_wheel_comes_first_then_the_path(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_server() == find_valkey()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(temporary))
    assert find_server() is None
    for name in ("redis-server", "valkey-server"):
        program = temporary / name
        program.write_text("#!/bin/sh")
        program.chmod(0o755)
        assert find_server() == program


@pytest.mark.parametrize("kind", ["exec", "watch"])
def test_tethered_program_dies_with_its_parent(kind: str) -> None:
    # The parent tells who its child is, and is killed.
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, subprocess, sys, time\n"
            "subprocess.Popen([sys.executable, '-IS', sys.argv[1], sys.argv[2], str(os.getpid()),"
            " sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(60)'],"
            " stdin=subprocess.PIPE)\n"
            "time.sleep(60)",
            tether.__file__,
            kind,
        ],
        stdout=subprocess.PIPE,
    )
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"1\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()
    wait_gone(children)


def test_tethered_program_is_not_started_for_a_dead_parent() -> None:
    command = [sys.executable, "-IS", tether.__file__, "exec", "1", "/bin/echo", "alive"]
    done = subprocess.run(command, capture_output=True, timeout=5_000 * MS, check=False)

    assert done.returncode == 1
    assert done.stdout == b""
