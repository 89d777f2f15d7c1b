"""Time as the hub and its brokers see it, so that tests can drive it."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["Clock", "SystemClock", "Timer"]


class Timer(Protocol):
    """A call that is due."""

    def cancel(self) -> None:
        """Keep it from happening; nothing if it has happened."""


class Clock(Protocol):
    """Tells the time and calls back."""

    def monotonic(self) -> float:
        """Return seconds that only grow, from an arbitrary start."""

    def time(self) -> float:
        """Return the Unix time in seconds."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call a function of the running event loop after some seconds."""


class SystemClock:
    """The clock of this machine and of the running event loop."""

    def monotonic(self) -> float:
        """Return the system's monotonic time."""
        return time.monotonic()

    def time(self) -> float:
        """Return the system's Unix time."""
        return time.time()

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Schedule a call on the running event loop."""
        return asyncio.get_running_loop().call_later(delay, callback)
