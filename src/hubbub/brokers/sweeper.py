"""What removes expired entries from memory: an agenda, and a timer that wakes for it."""

from collections.abc import Callable
from typing import Generic

from hubbub.brokers.agenda import NEVER, Agenda, EntryT
from hubbub.clock import Clock, Timer

__all__ = ["Sweeper"]

# Expired entries that one operation removes: more than it can add, so that memory is bounded even
# if the loop never gets to run the timer; and that one call of the timer removes.
PER_OPERATION = 4
PER_TIMER = 1_000


class Sweeper(Generic[EntryT]):
    """Removes expired entries, a few at a time by any operation and by a timer.

    Args:
        forget: What to do with an entry that is all over; it is in no agenda any more.
    """

    def __init__(self, clock: Clock, forget: Callable[[EntryT], object]) -> None:
        self._clock = clock
        self._forget = forget
        self._agenda = Agenda[EntryT]()
        self._running = False
        self._timer: Timer | None = None
        self._timer_second = NEVER
        self.remove = self._agenda.remove

    def start(self) -> None:
        """Set the timer; needs a running event loop."""
        self._running = True
        self._set_timer()

    def stop(self) -> None:
        """Cancel the timer; entries stay."""
        self._running = False
        self._cancel_timer()

    def sweep(self, now: float) -> None:
        """Remove a few entries; call it in each operation."""
        if now >= self._agenda.next:
            self._agenda.sweep(now, PER_OPERATION, self._forget)

    def queue(self, entry: EntryT, due: float, now: float) -> None:
        """Have an entry looked at soon after it is due, unless it is looked at before."""
        if due >= entry.queued:
            return
        self._agenda.queue(entry, due, now)
        if self._agenda.next < self._timer_second and self._running:
            self._set_timer()

    def _set_timer(self) -> None:
        """Wake when the next entry is due."""
        self._cancel_timer()
        second = self._agenda.next
        if second < NEVER:
            self._timer_second = second
            delay = max(0.0, second - self._clock.monotonic())
            self._timer = self._clock.call_later(delay, self._wake)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_second = None, NEVER

    def _wake(self) -> None:
        self._timer, self._timer_second = None, NEVER
        self._agenda.sweep(self._clock.monotonic(), PER_TIMER, self._forget)
        self._set_timer()
