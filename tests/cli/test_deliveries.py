"""Numbers as they come: lost, twice, out of order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.cli.deliveries import MAX_MISSING, Deliveries


@pytest.mark.parametrize(
    ("numbers", "lost", "duplicates", "reordered"),
    [
        ([0, 1, 2, 3], 0, 0, 0),
        ([0, 2, 3], 1, 0, 0),
        ([0, 1], 2, 0, 0),
        ([], 4, 0, 0),
        ([0, 1, 1, 2, 3], 0, 1, 0),
        ([0, 2, 1, 3], 0, 0, 1),
        ([3, 2, 1, 0], 0, 0, 3),
        ([0, 2, 1, 1, 2, 3], 0, 2, 1),
    ],
)
def test_faults_among_four_numbers_are_counted(
    numbers: list[int], lost: int, duplicates: int, reordered: int
) -> None:
    deliveries = Deliveries()
    for number in numbers:
        deliveries.count(number)

    assert (lost, duplicates, reordered) == (
        deliveries.lost(4),
        deliveries.duplicates,
        deliveries.reordered,
    )


@given(st.lists(st.integers(0, 30), max_size=60))
def test_counts_agree_with_a_plain_model(numbers: list[int]) -> None:
    deliveries = Deliveries()

    first = [number for number in numbers if deliveries.count(number)]

    assert set(numbers) == set(first)
    assert len(numbers) - len(first) == deliveries.duplicates
    assert deliveries.lost(31) == 31 - len(set(numbers))
    assert deliveries.lost() == max(numbers, default=-1) + 1 - len(set(numbers))
    highest = [max(first[:index]) for index in range(1, len(first))]
    late = sum(number < most for number, most in zip(first[1:], highest, strict=True))
    assert deliveries.reordered == late


def test_memory_of_missing_numbers_is_bounded_and_their_count_is_not() -> None:
    deliveries = Deliveries()

    deliveries.count(0)
    deliveries.count(10 * MAX_MISSING)
    deliveries.count(10 * MAX_MISSING + 2)

    assert deliveries.lost() == 10 * MAX_MISSING
