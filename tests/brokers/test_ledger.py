"""Streams in a file, without a loop or a thread: what is kept at hand is what is in the file."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from hubbub.brokers.database import Database
from hubbub.brokers.jobs import Append, Clear, Read
from hubbub.brokers.ledger import Ledger
from hubbub.model import Position, Publication

NOW = 1_700_000_000.0


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "hub.db", synchronous="normal", lock_timeout=0.0)


@pytest.fixture
def ledger(database: Database) -> Iterator[Ledger]:
    ledger = Ledger(database, Random(1), max_streams=10)
    ledger.open(NOW)
    yield ledger
    ledger.close()


def append(channel: str, n: int, size: int = 100) -> Append:
    return Append(channel, Publication(b"%d" % n), size, 60.0, 600.0, "", 0, "", NOW)


def read(channel: str) -> Read:
    return Read(channel, None, None, False, 600.0, True, NOW)


def pages(ledger: Ledger, *channels: str) -> list[list[bytes]]:
    jobs = [read(channel) for channel in channels]
    ledger.run(jobs)
    assert [job.error for job in jobs] == [None] * len(jobs)
    return [
        [publication.data for publication in job.page.publications] if job.page else []
        for job in jobs
    ]


def test_streams_beyond_those_at_hand_are_found_in_the_file(ledger: Ledger) -> None:
    channels = [str(n) for n in range(50)]
    positions: list[Position] = []
    for n in range(3):
        jobs = [append(channel, n) for channel in channels]
        ledger.run(jobs)
        positions += [job.position for job in jobs]

    assert [position.offset for position in positions] == [1] * 50 + [2] * 50 + [3] * 50
    assert len({position.epoch for position in positions}) == 50
    assert pages(ledger, *channels) == [[b"0", b"1", b"2"]] * 50


def test_more_rows_than_fit_one_statement_are_written_in_order(ledger: Ledger) -> None:
    ledger.run([append(str(n % 400), n, size=3) for n in range(2_000)])

    assert pages(ledger, "7", "399") == [
        [b"807", b"1207", b"1607"],
        [b"1199", b"1599", b"1999"],
    ]


def test_what_is_cleared_in_the_same_batch_is_not_written(
    ledger: Ledger, database: Database
) -> None:
    ledger.run([append("a", 1), append("a", 2), Clear("a"), append("a", 3), Clear("b")])

    assert pages(ledger, "a") == [[b"3"]]
    assert database.fetch("SELECT offset FROM publication") == [(3,)]


def test_what_was_pushed_out_within_a_batch_is_not_written(
    ledger: Ledger, database: Database
) -> None:
    ledger.run([append("a", n, size=2) for n in range(100)])

    assert database.fetch("SELECT offset FROM publication") == [(99,), (100,)]


def test_pages_that_are_alike_are_read_once(ledger: Ledger) -> None:
    ledger.run([append("a", 1)])
    jobs = [read("a"), read("a")]
    ledger.run(jobs)

    assert jobs[0].page is jobs[1].page
