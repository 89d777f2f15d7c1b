"""A timer wheel: many timers, one call of the event loop at a time.

Sessions have a timer each, always: for their next ping, the missing pong, their expiry. Timers
are late by up to the resolution, never early.
"""

import math
from collections.abc import Callable

from hubbub.clock import Clock, Timer

__all__ = ["TimerWheel", "WheelTimer"]


class WheelTimer:
    """A call that is due; `cancel` keeps it from happening."""

    __slots__ = ("_callback", "_slot", "_wheel")

    def __init__(self, wheel: "TimerWheel", slot: int, callback: Callable[[], object]) -> None:
        self._wheel = wheel
        self._slot = slot
        self._callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Keep the call from happening; nothing if it has happened."""
        if self._callback is not None:
            self._callback = None
            self._wheel.forget(self._slot, self)

    def fire(self) -> None:
        """Make the call, unless cancelled."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class TimerWheel:
    """Timers in slots of equal time.

    Args:
        clock: Tells the time, and wakes the wheel.
        resolution: Seconds per slot.
        on_error: Takes what a call raises; the others are made all the same.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        resolution: float = 0.1,
        on_error: Callable[[Exception], object],
    ) -> None:
        self._clock = clock
        self._resolution = resolution
        self._on_error = on_error
        self._slots: dict[int, dict[WheelTimer, None]] = {}
        self._wake: Timer | None = None
        self._wakes_at = 0  # slot, while _wake is set

    def schedule(self, delay: float, callback: Callable[[], object]) -> WheelTimer:
        """Make a call after some seconds."""
        slot = math.ceil((self._clock.monotonic() + delay) / self._resolution)
        timer = WheelTimer(self, slot, callback)
        timers = self._slots.get(slot)
        if timers is not None:
            timers[timer] = None
        else:
            self._slots[slot] = {timer: None}
            if self._wake is None or slot < self._wakes_at:
                self._set(slot)
        return timer

    def forget(self, slot: int, timer: WheelTimer) -> None:
        """Drop a cancelled timer now: it may be due in a year."""
        timers = self._slots.get(slot)
        if timers is not None:
            timers.pop(timer, None)
            if not timers:
                del self._slots[slot]

    def stop(self) -> None:
        """Forget all timers."""
        self._slots.clear()
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    def _set(self, slot: int) -> None:
        if self._wake is not None:
            self._wake.cancel()
        self._wakes_at = slot
        delay = max(0.0, slot * self._resolution - self._clock.monotonic())
        self._wake = self._clock.call_later(delay, self._turn)

    def _turn(self) -> None:
        self._wake = None
        now = self._clock.monotonic()
        # A little tolerance: the event loop may wake a hair before the time that it was told.
        due = [slot for slot in self._slots if slot * self._resolution <= now + 1e-3]
        for slot in sorted(due):
            for timer in self._slots.pop(slot, ()):
                try:
                    timer.fire()
                except Exception as exc:
                    self._on_error(exc)
        if self._slots:
            earliest = min(self._slots)
            if self._wake is None or earliest < self._wakes_at:
                self._set(earliest)
