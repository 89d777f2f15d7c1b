"""`hubbub run --workers 2` as a whole: what clients see of deaths, restarts and replacements."""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.cli.commands import Command
from tests.workers.service import (
    APP,
    Follower,
    descendants,
    greeting_pid,
    publishing,
    serving,
    until,
    wait_gone,
    worker_pids,
)

# More than enough for the kernel to choose each of two workers at least once.
CONNECTIONS = 40


def application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with the application; its path is short enough for Unix sockets."""
    path = tmp_path_factory.mktemp("w")
    (path / "app.py").write_text(APP)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return application(tmp_path_factory)


@pytest.fixture(scope="module")
def shared(folder: Path) -> Iterator[Command]:
    """One service for all tests that leave it as it was."""
    with serving(folder) as command:
        command.stdout.wait_for("Ctrl.C stops it")
        yield command


@pytest.fixture
async def service(shared: Command) -> Command:
    """The same, with an empty channel and two workers."""
    await until(lambda: len(worker_pids(shared)) == 2)
    return shared


@asynccontextmanager
async def followers(command: Command) -> AsyncGenerator[list[Follower]]:
    """Connect two clients, to different workers, in a room of their own."""
    room = uuid.uuid4().hex
    async with AsyncExitStack() as stack:
        found: dict[int, Follower] = {}
        for _ in range(CONNECTIONS):
            async with AsyncExitStack() as attempt:
                follower = await attempt.enter_async_context(Follower(command.url, room))
                pid = await follower.pid()
                if pid not in found:
                    found[pid] = follower
                    stack.push_async_callback(attempt.pop_all().aclose)
            if len(found) == 2:
                break
        assert set(found) == worker_pids(command)
        yield list(found.values())


async def test_connections_and_publications_reach_all_workers(service: Command) -> None:
    async with followers(service) as (one, other):
        here, there = await one.say(0), await other.say(1)
        await one.has_seen(2)
        await other.has_seen(2)

        assert {here, there} == worker_pids(service)


async def test_killed_worker_is_replaced_and_its_clients_recover(service: Command) -> None:
    async with followers(service) as (one, other):
        before = worker_pids(service)
        victim = await one.pid()
        async with publishing(other) as published:
            await one.has_seen(5)
            os.kill(victim, signal.SIGKILL)
            await until(lambda: victim not in worker_pids(service))
            service.stderr.wait_for(rf"worker \d \(pid {victim}\) was killed by SIGKILL")
            await until(lambda: len(worker_pids(service)) == 2)
            assert await one.pid() != victim
        for follower in (one, other):
            await follower.has_seen(len(published))

        assert len(worker_pids(service) & before) == 1
        assert one.breaks == other.breaks == 0


async def test_killed_broker_comes_back_with_all_that_was_acknowledged(service: Command) -> None:
    async with followers(service) as (one, other):
        workers = worker_pids(service)
        async with publishing(other) as published:
            await one.has_seen(20)
            (broker,) = [each for each in descendants(service) if "valkey" in each.name()]
            broker.kill()
            service.stderr.wait_for("the embedded broker was killed by SIGKILL")
            spoken = len(published)
            await until(lambda: len(published) > spoken + 20)
        for follower in (one, other):
            await follower.has_seen(len(published))

        assert one.breaks == other.breaks == 0
        assert worker_pids(service) == workers


async def test_hangup_replaces_all_workers_and_nobody_notices(service: Command) -> None:
    refused: list[Exception] = []
    greeted: set[int] = set()

    async def knock(ended: asyncio.Event) -> None:
        while not ended.is_set():
            try:
                greeted.add(await greeting_pid(service))
            except ConnectionClosed:
                pass  # accepted, and about to end: 1001
            except Exception as exc:
                refused.append(exc)

    async with followers(service) as (one, other):
        before = worker_pids(service)
        ended = asyncio.Event()
        async with publishing(other) as published, asyncio.TaskGroup() as group:
            group.create_task(knock(ended))
            group.create_task(knock(ended))
            await one.has_seen(5)
            service.signal(signal.SIGHUP)
            await until(lambda: not worker_pids(service) & before)
            spoken = len(published)
            await until(lambda: len(published) > spoken + 5)
            ended.set()
        for follower in (one, other):
            await follower.has_seen(len(published))

        assert refused == []
        assert len(greeted) >= 3
        assert one.breaks == other.breaks == 0
        # The other one may find out by a message that it cannot send.
        assert 3001 in one.codes


async def test_application_that_does_not_start_ends_the_replacement(
    service: Command, folder: Path
) -> None:
    before = worker_pids(service)
    (folder / "app.py").write_text("def (:\n")
    try:
        service.signal(signal.SIGHUP)
        service.stderr.wait_for("error: cannot import 'app': SyntaxError")
        service.stderr.wait_for("no worker is replaced any more: the old ones go on")
    finally:
        (folder / "app.py").write_text(APP)
    await until(lambda: len(worker_pids(service)) == 2)

    assert worker_pids(service) == before
    assert await greeting_pid(service) in before


async def test_worker_that_is_asked_to_stop_is_replaced(service: Command) -> None:
    before = worker_pids(service)
    victim = await greeting_pid(service)
    os.kill(victim, signal.SIGTERM)
    await until(lambda: victim not in worker_pids(service) and len(worker_pids(service)) == 2)

    assert len(worker_pids(service) & before) == 1


def test_termination_drains_and_leaves_nothing_behind(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = application(tmp_path_factory)
    with serving(folder) as command:
        command.stdout.wait_for("Ctrl.C stops it")
        processes = descendants(command)
        assert len(list((folder / "tmp").iterdir())) > 0

        async def be_drained() -> list[int]:
            async with followers(command) as (one, other):
                command.signal(signal.SIGTERM)
                await until(lambda: 3001 in one.codes and 3001 in other.codes)
                return [*one.codes, *other.codes]

        asyncio.run(be_drained())

        assert command.wait() == 0
        assert not [each for each in processes if each.is_running()]
        assert "Traceback" not in command.stderr.text

    assert list((folder / "tmp").iterdir()) == []


def test_killed_supervisor_leaves_no_process(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = application(tmp_path_factory)
    with serving(folder) as command:
        command.stdout.wait_for("Ctrl.C stops it")
        processes = descendants(command)
        command.signal(signal.SIGKILL)
        command.process.wait()
        wait_gone(processes)
