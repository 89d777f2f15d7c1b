"""The judgement of SDKs: each fault is found, and what is no fault is none."""

import pytest

from tests.chaos.evidence import Evidence

A, B, C = ("p", 0), ("p", 1), ("p", 2)


@pytest.fixture
def evidence() -> Evidence:
    """Two subscribers stand in one channel, and three publications were acknowledged."""
    made = Evidence()
    for who in ("one", "two"):
        made.subscribed(who, "room", "e", 0, recovered=False)
    for key in (A, B, C):
        made.acknowledged("room", key)
    return made


def deliver(evidence: Evidence, who: str, *items: tuple[int, tuple[str, int]]) -> None:
    for offset, key in items:
        evidence.delivered(who, "room", offset, key)


def test_everything_once_and_in_order_is_no_fault(evidence: Evidence) -> None:
    for who in ("one", "two"):
        deliver(evidence, who, (1, A), (2, B), (3, C))

    assert evidence.faults() == []
    assert evidence.has("one", "room", C)


def test_recovery_goes_on_where_it_stood(evidence: Evidence) -> None:
    deliver(evidence, "one", (1, A), (2, B), (3, C))
    deliver(evidence, "two", (1, A))
    evidence.subscribed("two", "room", "e", 1, recovered=True)
    deliver(evidence, "two", (2, B), (3, C))

    assert evidence.faults() == []
    assert (evidence.recoveries, evidence.told_so) == (1, 0)


def test_recovery_with_a_hole_is_a_loss(evidence: Evidence) -> None:
    deliver(evidence, "one", (1, A), (2, B), (3, C))
    deliver(evidence, "two", (1, A))
    evidence.subscribed("two", "room", "e", 1, recovered=True)
    deliver(evidence, "two", (3, C))

    assert evidence.faults() == [
        "two got offset 3 after 1 in room, too early: something is lost",
        "two lost 1 in room, the first is ('p', 1)",
    ]


def test_recovery_of_another_epoch_is_a_fault(evidence: Evidence) -> None:
    for who in ("one", "two"):
        deliver(evidence, who, (1, A), (2, B), (3, C))
    evidence.subscribed("two", "room", "f", 3, recovered=True)

    assert evidence.faults() == ["two was told recovered: true in room, of another stream"]


def test_loss_after_it_was_told_is_none(evidence: Evidence) -> None:
    deliver(evidence, "one", (1, A), (2, B), (3, C))
    evidence.subscribed("two", "room", "e", 3, recovered=False)

    assert evidence.faults() == []
    assert evidence.told_so == 1


def test_repetition_is_a_fault(evidence: Evidence) -> None:
    deliver(evidence, "one", (1, A), (2, B), (3, C))
    deliver(evidence, "two", (1, A), (2, B), (2, B), (3, C))

    assert evidence.faults() == [
        "two got offset 2 after 2 in room, again",
        "two got ('p', 1) 2 times in room",
    ]


def test_second_place_in_the_stream_is_a_fault(evidence: Evidence) -> None:
    for who in ("one", "two"):
        deliver(evidence, who, (1, A), (2, B), (3, C), (4, A))

    assert "one got ('p', 0) 2 times in room" in evidence.faults()


def test_order_other_than_the_publishers_is_a_fault(evidence: Evidence) -> None:
    for who in ("one", "two"):
        deliver(evidence, who, (1, B), (2, A), (3, C))

    assert evidence.faults() == ["one got p 0 late in room", "two got p 0 late in room"]


def test_different_publications_of_one_offset_are_a_fault(evidence: Evidence) -> None:
    deliver(evidence, "one", (1, A), (2, B), (3, C))
    deliver(evidence, "two", (1, A), (2, C), (3, B))

    assert "two got ('p', 2) at offset 2 of room, others ('p', 1)" in evidence.faults()


def test_what_nobody_got_has_vanished_unless_all_were_told(evidence: Evidence) -> None:
    deliver(evidence, "one", (1, A), (2, B))
    evidence.subscribed("two", "room", "f", 0, recovered=False)

    assert "('p', 2) of room has vanished" in evidence.faults()

    evidence.subscribed("one", "room", "f", 0, recovered=False)

    assert evidence.faults() == []


def test_end_of_an_sdk_is_a_fault(evidence: Evidence) -> None:
    for who in ("one", "two"):
        deliver(evidence, who, (1, A), (2, B), (3, C))
    evidence.ended("one", "3500 invalid token")

    assert evidence.faults() == ["one was ended: 3500 invalid token"]
