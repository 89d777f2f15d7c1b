"""A clock that stands still until a test moves it."""

from collections.abc import Callable

from hubbub.clock import Timer

__all__ = ["NOW", "FakeClock"]

NOW = 1_800_000_000.0


class FakeClock:
    """Unix time starts at `NOW`, monotonic time at an odd number of its own."""

    def __init__(self) -> None:
        self.passed = 0.0

    def monotonic(self) -> float:
        return 4711.0 + self.passed

    def time(self) -> float:
        return NOW + self.passed

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        raise AssertionError("checking tokens sets no timers")
