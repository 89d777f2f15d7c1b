"""The broker in an SQLite file, beyond what every broker guarantees."""

import asyncio
import logging
import sqlite3
import struct
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hubbub.brokers.base import Broker
from hubbub.brokers.database import Database, Synchronous
from hubbub.brokers.opening import open_broker
from hubbub.brokers.sqlite import SqliteBroker
from hubbub.clock import SystemClock
from hubbub.errors import BrokerError, ConfigError
from hubbub.model import ClientInfo, History, Join, Position, Publication
from hubbub.testing import FakeClock
from tests.brokers.recorder import Recorder
from tests.timing import MS

ADA = ClientInfo("ada", "client-1")
PUBLICATION = Publication(b"1")
TIMEOUT = 5_000 * MS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hub.db"


def new(path: Path, clock: FakeClock | None = None, **options: Any) -> SqliteBroker:
    """A broker that does not wait for the disk's cache."""
    return SqliteBroker(path, synchronous="normal", clock=clock, **options)


async def publish(
    broker: SqliteBroker, channel: str = "a", data: bytes = b"1", *, size: int = 1_000, **more: Any
) -> Position:
    options: dict[str, Any] = {"history_ttl": 600.0} | more
    return await broker.publish(channel, Publication(data), history_size=size, **options)


async def read(broker: SqliteBroker, channel: str = "a") -> list[bytes]:
    return [publication.data for publication in (await broker.history(channel)).publications]


def count(path: Path, table: str) -> int:
    """Rows of a table of a file that nobody uses."""
    connection = sqlite3.connect(path)
    try:
        ((rows,),) = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
    finally:
        connection.close()
    return int(rows)


def commits(path: Path) -> int:
    """Transactions in the log of a file (SQLite file format §4.1: frames that end one)."""
    log = path.with_name(path.name + "-wal").read_bytes()
    page_size = struct.unpack(">I", log[8:12])[0]
    salt = log[16:24]
    frames = [log[at : at + 24] for at in range(32, len(log) - 24, 24 + page_size)]
    return sum(frame[8:16] == salt and frame[4:8] != bytes(4) for frame in frames)


# URLs


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///chat.db", "chat.db"),
        ("sqlite:///data/chat.db?synchronous=normal", "data/chat.db"),
        ("sqlite:///a%20b%3F.db?synchronous=full", "a b?.db"),
    ],
)
async def test_url_names_a_relative_file(
    url: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    broker: Broker = open_broker(url, SystemClock())
    monkeypatch.chdir("/")
    async with broker.running(Recorder()):
        assert (tmp_path / file).exists()

    assert not broker.local
    assert broker.alone


async def test_url_names_an_absolute_file(path: Path) -> None:
    async with open_broker(f"sqlite:///{path}", SystemClock()).running(Recorder()):
        assert path.exists()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:", "should be 'sqlite:///relative/path.db'"),
        ("sqlite:chat.db", "should be"),
        ("sqlite://chat.db", "should be"),
        ("sqlite:///", "should be"),
        ("sqlite:///a#b", "should be"),
        ("sqlite:///:memory:", "'memory:' does so faster"),
        ("sqlite:///a.db?mode=ro", "'mode'; known: synchronous"),
        ("sqlite:///a.db?synchronous", "synchronous is 'full' or 'normal'"),
        ("sqlite:///a.db?synchronous=off", "synchronous is 'full' or 'normal'"),
        ("sqlite3:///a.db", "scheme 'sqlite3' of the URL is none of"),
    ],
)
def test_other_urls_are_refused(url: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_broker(url, SystemClock())

    assert says in str(caught.value)


@pytest.mark.parametrize(("synchronous", "level"), [("full", 2), ("normal", 1)])
def test_synchronous_is_set_at_the_database(
    synchronous: Synchronous, level: int, path: Path
) -> None:
    database = Database(path, synchronous=synchronous, lock_timeout=0.0)
    database.open()
    found = [database.fetch(f"PRAGMA {name}") for name in ("synchronous", "journal_mode")]
    database.close()

    assert found == [[(level,)], [("wal",)]]


# What outlives the process


async def test_streams_versions_and_keys_outlive_the_broker(path: Path) -> None:
    tags = {"lang": "de"}
    rich = Publication(bytes(range(256)), info=ADA, tags=tags, delta=True, time=1_700_000_000_123)
    async with new(path).running(Recorder()):
        pass
    broker = new(path)
    async with broker.running(Recorder()):
        first = await broker.publish("a", rich, history_size=10, history_ttl=60.0)
        second = await publish(broker, data=b"2", idempotency_key="k", version=5)
        unused = (await broker.history("b")).position
        before = await broker.history("a")
    again = new(path)
    async with again.running(Recorder()):
        assert await again.history("a") == before
        assert (await again.history("b")).position == unused
        assert await publish(again, data=b"no", idempotency_key="k") == second
        assert await publish(again, data=b"no", version=5) == second
        assert await publish(again, data=b"3", version=6) == Position(first.epoch, 3)
        history = await again.history("a")

    assert history.publications[0] == Publication(
        rich.data, ADA, tags, True, 1, first.epoch, rich.time
    )
    assert [item.data for item in history.publications[1:]] == [b"2", b"3"]


async def test_presence_and_subscriptions_do_not_outlive_the_broker(path: Path) -> None:
    recorder, broker = Recorder(), new(path)
    async with broker.running(recorder):
        await broker.subscribe(["a"])
        await broker.add_presence("a", "client-1", ADA, None)
    async with broker.running(recorder):
        await publish(broker)
        present = await broker.presence("a")

    assert recorder.seen == []
    assert present == {}


async def test_times_go_on_while_no_process_runs(path: Path) -> None:
    clock = FakeClock()
    async with new(path, clock).running(Recorder()):
        pass
    positions = []
    kept = []
    for seconds in (0.0, 9.0, 2.0, 300.0, 100.0):
        clock.advance(seconds)
        broker = new(path, clock)
        async with broker.running(Recorder()):
            kept.append(len(await read(broker)))
            positions.append(
                await publish(broker, history_ttl=10.0, meta_ttl=310.0, idempotency_key="k")
            )
            await broker.history("a", meta_ttl=310.0)

    first = positions[0]
    assert positions[:3] == [first] * 3  # the key
    assert kept == [0, 1, 0, 0, 0]
    assert positions[3] == Position(first.epoch, 2)
    assert len({position.epoch for position in positions}) == 1


async def test_stream_unused_for_its_meta_ttl_begins_anew(path: Path) -> None:
    clock, broker = FakeClock(), None
    epochs = []
    for _ in range(2):
        broker = new(path, clock)
        async with broker.running(Recorder()):
            epochs.append((await publish(broker, meta_ttl=50.0)).epoch)
        clock.advance(51.0)

    assert len(set(epochs)) == 2


async def test_publications_without_history_leave_no_trace(path: Path) -> None:
    recorder, broker = Recorder(), new(path)
    async with broker.running(recorder):
        await broker.subscribe(["a"])
        before = commits(path)
        for _ in range(3):
            assert await publish(broker, size=0) == Position()
        assert recorder.seen == [b"1"] * 3
        assert commits(path) == before


# Group commit


async def test_publications_of_one_tick_are_committed_together(path: Path) -> None:
    recorder, broker = Recorder(), new(path)
    async with broker.running(recorder):
        await broker.subscribe(["a"])
        before = commits(path)
        async with asyncio.TaskGroup() as group:
            for n in range(50):
                group.create_task(publish(broker, data=b"%d" % n))

        assert commits(path) - before == 1
    assert recorder.seen == [b"%d" % n for n in range(50)]


async def test_publications_that_come_during_a_commit_are_committed_together(path: Path) -> None:
    recorder = Recorder()

    async def repeat(number: int) -> None:
        for n in range(20):
            await publish(broker, data=b"%d-%d" % (number, n))

    broker = new(path)
    async with broker.running(recorder):
        before = commits(path)
        async with asyncio.TaskGroup() as group:
            for number in range(16):
                group.create_task(repeat(number))

        assert commits(path) - before <= 21  # one for each round of all
        assert len(await read(broker)) == 320


async def test_nothing_is_delivered_or_readable_before_its_commit(path: Path) -> None:
    recorder, broker = Recorder(), new(path)
    seen: list[tuple[int, int]] = []

    def react(data: bytes) -> None:
        seen.append((commits(path), len(recorder.seen)))

    recorder.react = react
    async with broker.running(recorder):
        await broker.subscribe(["a"])
        before = commits(path)
        await publish(broker)

    assert seen == [(before + 1, 1)]


async def test_joins_and_publications_without_history_keep_their_turn(path: Path) -> None:
    recorder, broker = Recorder(), new(path)
    async with broker.running(recorder):
        await broker.subscribe(["a"])
        async with asyncio.TaskGroup() as group:
            group.create_task(publish(broker, data=b"kept"))
            group.create_task(broker.announce("a", Join(ADA)))
            group.create_task(publish(broker, data=b"passing", size=0))
            group.create_task(publish(broker, data=b"kept too"))

    assert recorder.seen == [b"kept", b"join or leave", b"passing", b"kept too"]


async def test_history_read_while_publishing_has_what_is_not_yet_delivered(path: Path) -> None:
    recorder, broker = Recorder(), new(path)
    gaps = []
    async with broker.running(recorder), asyncio.TaskGroup() as group:
        for n in range(50):
            group.create_task(publish(broker, data=b"%d" % n))
            if n % 5 == 0:
                await broker.subscribe(["a"])
                delivered = len(recorder.seen)
                page = await broker.history("a")
                gaps.append(page.position.offset - delivered)
                await asyncio.sleep(0)

    # Subscribed at the first: all that the pages do not have was delivered later.
    assert all(gap >= 0 for gap in gaps)
    assert recorder.seen == [b"%d" % n for n in range(50)]


async def test_what_is_published_while_delivering_follows_in_its_turn(path: Path) -> None:
    inside = False

    def react(data: bytes) -> None:
        nonlocal inside
        assert not inside
        inside = True
        if len(data) < 3:
            group.create_task(publish(broker, data=data + b"x"))
            group.create_task(broker.announce("a", Join(ADA)))
        inside = False

    broker, recorder = new(path), Recorder(react)
    async with broker.running(recorder), asyncio.TaskGroup() as group:
        await broker.subscribe(["a"])
        await publish(broker, data=b"0")

    assert sorted(recorder.seen) == [b"0", b"0x", b"0xx", b"join or leave", b"join or leave"]


async def test_receiver_that_raises_costs_nobody_else_anything(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def react(data: bytes) -> None:
        if data == b"bad":
            raise RuntimeError("a bug in the receiver")

    broker, recorder = new(path), Recorder(react)
    with caplog.at_level(logging.CRITICAL, "hubbub.brokers"):
        async with broker.running(recorder):
            await broker.subscribe(["a"])
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(publish(broker, data=b)) for b in (b"bad", b"good")]

    assert [task.result().offset for task in tasks] == [1, 2]
    assert recorder.seen == [b"bad", b"good"]


# Cancellation, leaving


async def test_cancelled_publish_happens_and_breaks_nothing(path: Path) -> None:
    recorder, broker = Recorder(), new(path)
    async with broker.running(recorder):
        await broker.subscribe(["a"])
        tasks = [asyncio.create_task(publish(broker, data=b"%d" % n)) for n in range(9)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        kept = await read(broker)

    assert [isinstance(result, Position) for result in results] == [n % 2 == 1 for n in range(9)]
    assert kept == recorder.seen == [b"%d" % n for n in range(9)]


async def test_leaving_writes_and_answers_what_waits(path: Path) -> None:
    recorder, broker = Recorder(), new(path)
    async with broker.running(recorder):
        await broker.subscribe(["a"])
        tasks = [asyncio.create_task(publish(broker, data=b"%d" % n)) for n in range(5)]
        await asyncio.sleep(0)
    positions = [await task for task in tasks]
    async with broker.running(Recorder()):
        kept = await read(broker)

    assert [position.offset for position in positions] == [1, 2, 3, 4, 5]
    assert kept == recorder.seen == [b"%d" % n for n in range(5)]


async def test_leaving_does_not_wait_for_all_that_has_expired(path: Path) -> None:
    clock = FakeClock()
    broker = new(path, clock)
    async with broker.running(Recorder()):
        async with asyncio.TaskGroup() as group:
            for n in range(1_100):  # twice what one sweep takes, and more
                group.create_task(publish(broker, str(n % 500), meta_ttl=5.0))
        clock.advance(10.0)
    left = count(path, "stream")
    async with broker.running(Recorder()):
        await swept(broker, clock, 10.0)

    assert 0 < left < 500
    assert count(path, "stream") == 0


async def test_entering_and_leaving_can_be_cancelled(path: Path) -> None:
    broker = new(path)

    async def run() -> None:
        async with broker.running(Recorder()):
            entered.set()
            await asyncio.sleep(60)

    entered = asyncio.Event()
    for steps in (0, 1, 2, 3):
        task = asyncio.create_task(run())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], BaseException)
    task = asyncio.create_task(run())
    async with asyncio.timeout(TIMEOUT):
        await entered.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with broker.running(Recorder()):
        assert await publish(broker)


async def test_broker_that_does_not_run_refuses(path: Path) -> None:
    broker = new(path)
    async with broker.running(Recorder()):
        with pytest.raises(BrokerError, match="running already"):
            async with broker.running(Recorder()):
                raise AssertionError("unreachable: refused")
        await publish(broker)
    with pytest.raises(BrokerError, match="not running"):
        await publish(broker)
    with pytest.raises(BrokerError, match="not running"):
        await broker.history("a")


# Bounds


async def test_publications_beyond_what_may_wait_are_refused(path: Path) -> None:
    broker = new(path)
    data = bytes(1024 * 1024)
    refusals = Counter[bool]()

    async def attempt() -> None:
        try:
            await publish(broker, data=data, size=1)
        except BrokerError as exc:
            refusals["of at most 67108864" in str(exc)] += 1

    async with broker.running(Recorder()):
        async with asyncio.TaskGroup() as group:
            for _ in range(70):
                group.create_task(attempt())
        position = await publish(broker)

    assert refusals == {True: 7}
    assert position.offset == 64
    assert broker.outage is None


async def test_what_cannot_be_stored_is_refused_alone(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker, recorder = new(path), Recorder()
    with caplog.at_level(logging.CRITICAL, "hubbub.brokers"):
        async with broker.running(recorder):
            await broker.subscribe(["a"])
            tasks = [
                asyncio.create_task(publish(broker, data=b"1")),
                asyncio.create_task(publish(broker, "\ud800", b"a channel that is no text")),
                asyncio.create_task(broker.history("\ud800")),
                asyncio.create_task(publish(broker, data=b"2")),
            ]
            results = await asyncio.gather(*tasks, return_exceptions=True)
            outage = broker.outage
            with pytest.raises(ValueError, match="version=9223372036854775808 is above"):
                await publish(broker, version=2**63)

    assert [isinstance(result, BrokerError) for result in results] == [False, True, True, False]
    assert recorder.seen == [b"1", b"2"]
    assert outage is None


async def test_positions_beyond_what_the_file_can_hold_read_nothing(path: Path) -> None:
    broker = new(path)
    async with broker.running(Recorder()):
        top = await publish(broker)
        page = await broker.history("a", since=Position(top.epoch, 2**64 - 1))
        reverse = await broker.history(
            "a", since=Position(top.epoch, 2**64 - 1), limit=2**64, reverse=True
        )

    assert page == History((), top)
    assert len(reverse.publications) == 1


async def swept(broker: SqliteBroker, clock: FakeClock, seconds: float) -> None:
    """Let time pass, and all be swept that is due."""
    clock.advance(seconds)
    async with asyncio.timeout(TIMEOUT):
        while broker.waiting:
            await asyncio.sleep(MS)


async def test_what_expires_leaves_the_file(path: Path) -> None:
    clock = FakeClock()
    broker = new(path, clock)
    async with broker.running(Recorder()):
        async with asyncio.TaskGroup() as group:
            for n in range(600):
                options: dict[str, Any] = {
                    "meta_ttl": 60.0,
                    "history_ttl": 30.0,
                    "idempotency_key": str(n),
                }
                group.create_task(publish(broker, str(n % 100), bytes(5_000), **options))
            group.create_task(publish(broker, "b", meta_ttl=1_000.0, history_ttl=1_000.0))
            group.create_task(publish(broker, "c", history_ttl=30.0))  # its epoch stays 30 days
        await swept(broker, clock, 31.0)
        during = [await read(broker, "7"), await read(broker, "b")]
        await swept(broker, clock, 280.0)
    size = path.stat().st_size

    assert during == [[], [b"1"]]
    assert count(path, "publication") == 1
    # "7" was read later, which prolonged it to 30 days.
    assert count(path, "stream") == 3
    assert count(path, "result") == 0
    assert count(path, "garbage") == 0
    assert size < 256 * 1024 * 5  # 3 MB were published


async def test_file_holds_little_more_than_the_history(path: Path) -> None:
    broker = new(path)
    async with broker.running(Recorder()):
        for size in (40, 1, 200):
            async with asyncio.TaskGroup() as group:
                for _ in range(400):
                    group.create_task(publish(broker, "a", size=size))
            assert len(await read(broker)) == size

    assert 200 <= count(path, "publication") <= 226


async def test_removed_history_of_any_length_is_gone_at_once_and_deleted_later(path: Path) -> None:
    clock = FakeClock()
    broker = new(path, clock)
    async with broker.running(Recorder()):
        async with asyncio.TaskGroup() as group:
            for _ in range(1_100):
                group.create_task(publish(broker, size=10_000))
        await broker.remove_history("a")
        top = (await broker.history("a")).position
        position = await publish(broker, data=b"new")
        assert await read(broker) == [b"new"]
        await swept(broker, clock, 11.0)
        assert await read(broker) == [b"new"]

    assert position == Position(top.epoch, 1_101)
    assert count(path, "publication") == 1


async def test_channels_that_were_only_looked_at_are_forgotten(path: Path) -> None:
    clock = FakeClock()
    broker = new(path, clock)
    async with broker.running(Recorder()):
        await broker.subscribe(["watched", "left"])
        for channel in ("watched", "left", "looked at"):
            await broker.history(channel)
        await broker.unsubscribe(["left"])
        for _ in range(31):
            await swept(broker, clock, 10.0)
    during = count(path, "stream")
    async with new(path, clock).running(Recorder()):
        clock.advance(301.0)
        broker = new(path, clock)
    async with broker.running(Recorder()):
        await swept(broker, clock, 10.0)

    assert during == 1
    assert count(path, "stream") == 0


# Files that cannot be used


async def refusal(broker: SqliteBroker) -> str:
    """Why a broker cannot be entered."""
    with pytest.raises(BrokerError) as caught:
        async with broker.running(Recorder()):
            raise AssertionError("unreachable: refused")
    assert caught.value.broker == "sqlite"
    return caught.value.problem


async def test_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    problem = await refusal(new(tmp_path / "missing" / "hub.db"))

    assert problem == f"there is no directory {str(tmp_path / 'missing')!r}"


async def test_directory_is_no_database(tmp_path: Path) -> None:
    assert "is a directory" in await refusal(new(tmp_path))


async def test_file_that_is_no_database_is_left_alone(path: Path) -> None:
    path.write_bytes(b"something else, and longer than a header of SQLite, which is 100 bytes" * 9)
    before = path.read_bytes()

    assert "is not an SQLite database" in await refusal(new(path))
    assert path.read_bytes() == before


async def test_database_of_another_program_is_left_alone(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE stream (id)")
    connection.close()
    before = path.read_bytes()

    assert "is a database of another program" in await refusal(new(path))
    assert path.read_bytes() == before


async def test_newer_schema_is_refused(path: Path) -> None:
    async with new(path).running(Recorder()):
        pass
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=2")
    connection.close()

    assert "newer hubbub: its schema is 2, this one knows 1" in await refusal(new(path))


async def test_file_in_use_by_another_hub_of_the_process_is_refused(path: Path) -> None:
    broker = new(path)
    async with broker.running(Recorder()):
        problem = await refusal(new(path, lock_timeout=0.0))
        assert await publish(broker)
    async with new(path, lock_timeout=0.0).running(Recorder()):
        pass

    assert "is in use by another process, or by another hub of this one" in problem


async def test_file_that_is_soon_free_is_waited_for(path: Path) -> None:
    async def hold() -> None:
        async with new(path).running(Recorder()):
            held.set()
            await asyncio.sleep(MS)

    held = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(hold())
        await held.wait()
        async with new(path, lock_timeout=TIMEOUT).running(Recorder()):
            pass


async def fill(path: Path) -> Position:
    """Make a file of many pages."""
    broker = new(path)
    async with broker.running(Recorder()), asyncio.TaskGroup() as group:
        for _ in range(1_000):
            task = group.create_task(publish(broker, data=bytes(8_000)))
    return task.result()


def damage(path: Path) -> None:
    """Overwrite the second half of a file."""
    half = path.stat().st_size // 2
    with path.open("r+b") as file:
        file.seek(half)
        file.write(b"\xff" * half)


async def test_damaged_file_is_refused(path: Path) -> None:
    await fill(path)
    damage(path)
    problem = await refusal(new(path))

    assert "is damaged (" in problem
    assert "restore a copy, or move it out of the way" in problem


async def test_file_damaged_while_in_use_is_not_written_again(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await fill(path)
    clock, recorder = FakeClock(), Recorder()
    broker = new(path, clock)
    with caplog.at_level(logging.CRITICAL, "hubbub.brokers"):
        async with broker.running(recorder):
            await broker.subscribe(["a"])
            damage(path)
            with pytest.raises(BrokerError, match="is damaged"):
                await broker.history("a")
            assert "is damaged" in (broker.outage or "")
            before = path.read_bytes()
            for _ in range(3):
                with pytest.raises(BrokerError, match="is damaged"):
                    await publish(broker)
                await swept(broker, clock, 1.0)
            with pytest.raises(BrokerError, match="is damaged"):
                await broker.history("other")
            assert "is damaged" in (broker.outage or "")
            # What needs no file goes on.
            await publish(broker, size=0, data=b"passing")
            await broker.add_presence("a", "client-1", ADA, None)

    clock.advance(100.0)  # nothing is asked of a broker that was left

    assert recorder.seen == [b"passing"]
    assert path.read_bytes() == before
    assert broker.outage is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody remove an open file")
async def test_file_removed_while_in_use_is_an_outage(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    broker = new(path, clock)
    with caplog.at_level(logging.CRITICAL, "hubbub.brokers"):
        async with broker.running(Recorder()):
            await publish(broker)
            path.unlink()
            await swept(broker, clock, 10.0)
            assert "was removed or replaced" in (broker.outage or "")
            with pytest.raises(BrokerError, match="was removed or replaced"):
                await publish(broker)
