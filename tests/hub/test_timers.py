from hypothesis import given, settings
from hypothesis import strategies as st

from hubbub.hub.timers import TimerWheel, WheelTimer
from hubbub.testing import FakeClock


def raise_error(exc: Exception) -> None:
    raise exc


def test_timer_fires_once_and_not_early(clock: FakeClock) -> None:
    wheel, fired = TimerWheel(clock, on_error=raise_error), list[float]()
    due = clock.monotonic() + 1.25
    wheel.schedule(1.25, lambda: fired.append(clock.monotonic()))
    clock.advance(1.2)

    assert fired == []

    clock.advance(10)

    assert len(fired) == 1
    assert due <= fired[0] <= due + 0.1


def test_cancelled_timer_does_not_fire(clock: FakeClock) -> None:
    wheel, fired = TimerWheel(clock, on_error=raise_error), list[int]()
    first = wheel.schedule(1, lambda: fired.append(1))
    wheel.schedule(1, lambda: fired.append(2))
    first.cancel()
    clock.advance(2)
    first.cancel()

    assert fired == [2]


def test_timer_that_fails_leaves_the_others_alone(clock: FakeClock) -> None:
    errors, fired = list[Exception](), list[int]()
    wheel = TimerWheel(clock, on_error=errors.append)
    wheel.schedule(1, lambda: 1 // 0)
    wheel.schedule(1, lambda: fired.append(1))
    wheel.schedule(2, lambda: fired.append(2))
    clock.advance(3)

    assert fired == [1, 2]
    assert [type(error) for error in errors] == [ZeroDivisionError]


def test_timer_may_schedule_and_cancel_others(clock: FakeClock) -> None:
    wheel, fired = TimerWheel(clock, on_error=raise_error), list[str]()
    timers: list[WheelTimer] = []

    def first() -> None:
        fired.append("first")
        timers[0].cancel()
        wheel.schedule(0, lambda: fired.append("at once"))
        wheel.schedule(1, lambda: fired.append("later"))

    wheel.schedule(1, first)
    timers.append(wheel.schedule(1, lambda: fired.append("second")))
    clock.advance(1.2)

    assert fired == ["first", "at once"]

    clock.advance(1)

    assert fired == ["first", "at once", "later"]


def test_stopped_wheel_forgets_its_timers_and_goes_on(clock: FakeClock) -> None:
    wheel, fired = TimerWheel(clock, on_error=raise_error), list[int]()
    wheel.schedule(1, lambda: fired.append(1))
    wheel.stop()
    clock.advance(2)
    wheel.schedule(1, lambda: fired.append(2))
    clock.advance(2)

    assert fired == [2]


def test_wheel_can_be_stopped_by_a_timer(clock: FakeClock) -> None:
    wheel, fired = TimerWheel(clock, on_error=raise_error), list[int]()
    wheel.schedule(1, wheel.stop)
    wheel.schedule(1.5, lambda: fired.append(1))
    clock.advance(2)

    assert fired == []


delays = st.floats(0, 5, allow_nan=False)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("schedule"), delays),
        st.tuples(st.just("advance"), delays),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
    ),
    max_size=30,
)


@given(steps, st.sampled_from([0.1, 0.25, 1.0]))
@settings(deadline=None)
def test_wheel_agrees_with_plain_timers(steps: list[tuple[str, float]], resolution: float) -> None:
    clock = FakeClock()
    wheel = TimerWheel(clock, resolution=resolution, on_error=raise_error)
    fired: dict[int, float] = {}
    due: dict[int, float] = {}
    timers: list[WheelTimer] = []

    def fire(number: int) -> None:
        assert number not in fired
        fired[number] = clock.monotonic()

    for kind, amount in steps:
        if kind == "schedule":
            number = len(timers)
            due[number] = clock.monotonic() + amount
            timers.append(wheel.schedule(amount, lambda number=number: fire(number)))  # type: ignore[misc]
        elif kind == "cancel":
            if amount < len(timers):
                timers[int(amount)].cancel()
                due.pop(int(amount), None)
        else:
            clock.advance(amount)
        now = clock.monotonic()
        for number, time in due.items():
            if time + resolution + 1e-6 < now:
                assert number in fired
    for number, time in fired.items():
        if number in due:
            assert due[number] - 1e-3 <= time <= due[number] + resolution + 1e-6
    clock.advance(10)

    assert set(due) <= set(fired)
    assert all(number in due or fired[number] for number in fired)
