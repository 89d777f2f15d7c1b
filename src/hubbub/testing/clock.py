"""A clock that stands still until a test moves it."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from hubbub.clock import Timer

__all__ = ["FakeClock"]

# Time is counted in whole nanoseconds, so that ten steps of 0.1 s are one second.
SECOND = 1_000_000_000


class FakeClock:
    """A `Clock` for tests: it stands still until `advance` moves it.

    Args:
        monotonic: What `monotonic` returns first.
        time: What `time` returns first.
    """

    def __init__(self, *, monotonic: float = 1_000.0, time: float = 1_700_000_000.0) -> None:
        self._monotonic = round(monotonic * SECOND)
        self._ahead = round(time * SECOND) - self._monotonic
        self._timers: list[tuple[int, int, _FakeTimer]] = []  # a heap
        self._numbers = count()

    def monotonic(self) -> float:
        """Return seconds that only `advance` makes grow."""
        return self._monotonic / SECOND

    def time(self) -> float:
        """Return the Unix time in seconds, which moves along."""
        return (self._monotonic + self._ahead) / SECOND

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Have a function called by the `advance` that reaches its time."""
        due = self._monotonic + max(0, round(delay * SECOND))
        timer = _FakeTimer(callback)
        heappush(self._timers, (due, next(self._numbers), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Move the time, and call what becomes due, each at its time.

        What is due at the same time is called in the order in which it was asked for. A call may
        ask for others: those that become due are called as well. What a call raises comes out of
        here, and the time stays at that call's; another `advance` goes on.

        Raises:
            ValueError: The time would go back.
        """
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds}")
        end = self._monotonic + round(seconds * SECOND)
        while self._timers and self._timers[0][0] <= end:
            due, _, timer = heappop(self._timers)
            callback = timer.take()
            if callback is not None:
                self._monotonic = max(self._monotonic, due)
                callback()
        self._monotonic = max(self._monotonic, end)


class _FakeTimer:
    """A call that `advance` makes, unless it is cancelled."""

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback: Callable[[], object] | None = callback

    def take(self) -> Callable[[], object] | None:
        """Return what to call, once; `None` if it was cancelled."""
        callback, self._callback = self._callback, None
        return callback

    def cancel(self) -> None:
        self._callback = None
