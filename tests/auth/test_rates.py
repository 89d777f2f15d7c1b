"""The token bucket against a model, and its promise over any stretch of time."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.auth.rates import TokenBucket
from tests.auth.patience import patient

# Times and rates without rounding: the model counts exactly.
ticks = st.integers(0, 1 << 14).map(lambda count: count / 1024)
exact_rates = st.sampled_from([0.25, 0.5, 1.0, 2.0, 8.0, 64.0])


@patient
@given(exact_rates, st.integers(1, 20), ticks, st.lists(ticks | st.just(0.0), max_size=60))
def test_bucket_against_a_model(rate: float, burst: int, start: float, gaps: list[float]) -> None:
    bucket = TokenBucket(rate, burst, start)
    now, left = start, Fraction(burst)
    for gap in gaps:
        now += gap
        left = min(Fraction(burst), left + Fraction(gap) * Fraction(rate))
        admitted = left >= 1
        left -= admitted

        assert bucket.take(now) is admitted


@patient
@given(
    st.floats(0.01, 1e4),
    st.integers(1, 10),
    st.floats(0, 1e6),
    st.lists(st.floats(0, 1) | st.just(0.0), max_size=60),
)
def test_never_more_than_promised_in_any_stretch(
    rate: float, burst: int, start: float, gaps: list[float]
) -> None:
    bucket = TokenBucket(rate, burst, start)
    now, admitted = start, list[float]()
    for gap in gaps:
        now += gap
        if bucket.take(now):
            admitted.append(now)

    for at, since in enumerate(admitted):
        for count, until in enumerate(admitted[at:], start=1):
            assert count <= burst + rate * (until - since) + 1e-6 * rate + 1e-6


def test_burst_then_rate() -> None:
    bucket = TokenBucket(2.0, 3, 100.0)

    assert [bucket.take(100.0) for _ in range(5)] == [True, True, True, False, False]
    assert [bucket.take(100.25), bucket.take(100.5), bucket.take(100.5)] == [False, True, False]
    assert [bucket.take(900.0) for _ in range(4)] == [True, True, True, False]


def test_time_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(1.0, 1, 100.0)

    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert not bucket.take(100.5)
    assert bucket.take(101.0)


@pytest.mark.parametrize(("rate", "burst"), [(0.0, 1), (-1.0, 1), (float("nan"), 1), (1.0, 0)])
def test_bucket_that_admits_nothing_is_refused(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        TokenBucket(rate, burst, 0.0)


def test_bucket_has_no_dictionary() -> None:
    assert not hasattr(TokenBucket(1.0, 1, 0.0), "__dict__")
