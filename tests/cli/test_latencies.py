import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.cli.latencies import Latencies

SECONDS = st.lists(st.floats(0, 60), min_size=1)


@given(SECONDS, st.floats(0.1, 100))
def test_percentile_is_the_nearest_rank_within_one_percent(
    seconds: list[float], percent: float
) -> None:
    latencies = Latencies()
    for value in seconds:
        latencies[Latencies.bucket(value)] += 1
    rank = max(1, math.ceil(len(seconds) * percent / 100))
    exact = sorted(seconds)[rank - 1] * 1000

    assert latencies.total() == len(seconds)
    # A microsecond of rounding down below 10 ms, 0.1 ms from there.
    assert exact * 0.99 - 0.0011 <= latencies.percentile_ms(percent) <= exact + 1e-9


def test_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing was counted"):
        Latencies().percentile_ms(50)
