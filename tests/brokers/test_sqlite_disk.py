"""The SQLite broker where something happens to its process or its disk."""

import asyncio
import contextlib
import logging
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from hubbub.brokers.sqlite import SqliteBroker
from hubbub.errors import BrokerError
from hubbub.model import Position, Publication
from tests.brokers.recorder import Recorder
from tests.timing import MS

ROOT = Path(__file__).parents[2]
TIMEOUT = 20_000 * MS

# A user who may do nothing to the files of others.
NOBODY = 65_534


@contextlib.contextmanager
def publisher(path: Path, prefix: str, synchronous: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.brokers.publishing", str(path), prefix, synchronous]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("synchronous", ["full", "normal"])
def test_what_was_acknowledged_survives_kill(synchronous: str, tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    random = Random(synchronous)
    acknowledged: list[tuple[str, bytes, Position]] = []
    for life in range(4):
        with publisher(path, f"life-{life}", synchronous) as process:
            assert process.stdout is not None
            output = b""
            # Killed at any moment of its work, opening included.
            for _ in range(random.choice([0, 1, 20, 60])):
                output += process.stdout.readline()
            process.kill()
            output += process.stdout.read()
        for line in output.decode().splitlines():
            channel, name, epoch, offset = line.split()
            acknowledged.append((channel, name.encode(), Position(epoch, int(offset))))
    assert acknowledged

    async def check() -> None:
        broker = SqliteBroker(path)
        async with broker.running(Recorder()):
            kept = {}
            for channel in {channel for channel, _, _ in acknowledged}:
                page = await broker.history(channel)
                offsets = [publication.offset for publication in page.publications]
                assert offsets == list(range(1, page.position.offset + 1))
                for publication in page.publications:
                    kept[channel, publication.data] = publication.position
            for channel, name, position in acknowledged:
                assert kept[channel, name] == position
            for channel, name, position in acknowledged[::20]:
                again = await broker.publish(
                    channel,
                    Publication(b"again"),
                    history_size=10,
                    history_ttl=60.0,
                    idempotency_key=name.decode(),
                )
                assert again == position

    asyncio.run(check())


async def test_file_in_use_by_another_process_is_refused_until_it_is_killed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "hub.db"
    broker = SqliteBroker(path, lock_timeout=0.0)
    with publisher(path, "other", "normal") as process:
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        with pytest.raises(BrokerError, match="is in use by another process"):
            async with broker.running(Recorder()):
                raise AssertionError("unreachable: refused")
        process.kill()
        process.communicate()
    async with broker.running(Recorder()):
        page = await broker.history("channel-0", limit=1)

    assert page.publications


async def publish(broker: SqliteBroker, data: bytes) -> Position:
    return await broker.publish("a", Publication(data), history_size=10_000, history_ttl=600.0)


async def fill_and_free(broker: SqliteBroker, recorder: Recorder, free: "Free") -> None:
    """Publish until nothing can be written; then see that it is known, and ends."""
    acknowledged: list[bytes] = []
    refused: list[bytes] = []
    await broker.subscribe(["a"])
    for n in range(1_000):
        data = b"%d " % n + bytes(2_000)
        try:
            position = await publish(broker, data)
        except BrokerError as exc:
            refused.append(data)
            problem = exc.problem
            break
        acknowledged.append(data)
        assert position.offset == len(acknowledged)
    assert refused
    assert "the disk of" in problem
    assert broker.outage == problem
    # Reading goes on, in streams that are there, also together with what is refused.
    again = asyncio.create_task(publish(broker, bytes(200_000)))
    none = asyncio.create_task(broker.history("new"))
    page = await broker.history("a")
    results = await asyncio.gather(again, none, return_exceptions=True)
    assert [publication.data for publication in page.publications] == acknowledged
    assert [type(result) for result in results] == [BrokerError, BrokerError]
    assert recorder.seen == acknowledged
    free()
    async with asyncio.timeout(TIMEOUT):
        while broker.outage is not None:
            await asyncio.sleep(10 * MS)  # a probe a second
    position = await publish(broker, b"afterwards")
    page = await broker.history("a")
    assert position.offset == len(acknowledged) + 1
    assert [publication.data for publication in page.publications] == [*acknowledged, b"afterwards"]
    assert recorder.seen == [*acknowledged, b"afterwards"]


class Free:
    """Makes room on the disk."""

    def __call__(self) -> None:
        raise NotImplementedError


class Remove(Free):
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self) -> None:
        self.path.unlink()


class LiftLimit(Free):
    def __call__(self) -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of one megabyte."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory],
                check=True,
                capture_output=True,
            )
        except (OSError, subprocess.CalledProcessError) as exc:
            pytest.skip(f"no small file system can be mounted, root may: {exc}")
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", directory], check=True)


async def test_full_disk_refuses_until_there_is_room(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(600_000))
    recorder = Recorder()
    broker = SqliteBroker(small_disk / "hub.db")
    with caplog.at_level(logging.CRITICAL, "hubbub.brokers"):
        async with broker.running(recorder):
            await fill_and_free(broker, recorder, Remove(filler))


LIMITED = """
import asyncio, logging, resource, sys
from pathlib import Path
from hubbub.brokers.sqlite import SqliteBroker
from tests.brokers.recorder import Recorder
from tests.brokers.test_sqlite_disk import LiftLimit, fill_and_free

async def main():
    recorder, broker = Recorder(), SqliteBroker(Path(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    async with broker.running(recorder):
        await fill_and_free(broker, recorder, LiftLimit())

logging.disable()
asyncio.run(main())
print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of files' sizes")
def test_disk_that_fails_to_write_refuses_until_it_works(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "hub.db")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )

    assert done.stdout == "done\n", done.stderr


READ_ONLY = """
import asyncio, os, sys
from hubbub.brokers.sqlite import SqliteBroker
from hubbub.errors import BrokerError

async def main():
    if os.getuid() == 0:
        os.seteuid(int(sys.argv[2]))  # root may write anywhere
    try:
        async with SqliteBroker(sys.argv[1]).running(None):
            print("entered")
    except BrokerError as exc:
        print(exc.problem)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
@pytest.mark.parametrize("what", ["file", "directory", "directory of a new file"])
async def test_read_only_file_or_directory_is_refused(what: str, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own are for its user only
        directory = Path(name)
        path = directory / "hub.db"
        if what != "directory of a new file":
            async with SqliteBroker(path).running(Recorder()):
                pass
            path.chmod(0o444 if what == "file" else 0o666)
        directory.chmod(0o777 if what == "file" else 0o555)
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, str(path), str(NOBODY)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        directory.chmod(0o777)

    assert "is read-only, or not this user's" in done.stdout, done


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")
async def test_process_that_stands_still_keeps_the_file(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    with publisher(path, "other", "normal") as process:
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(BrokerError, match="is in use"):
            async with SqliteBroker(path, lock_timeout=0.0).running(Recorder()):
                raise AssertionError("unreachable: refused")
