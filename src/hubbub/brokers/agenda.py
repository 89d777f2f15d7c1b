"""When to look at what expires, so that the memory broker keeps nothing for ever."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Generic, Protocol, TypeVar

__all__ = ["NEVER", "Agenda", "Entry"]

NEVER = 2**53
"""Above every second that an entry can wait for."""

# An entry leaves memory late by a sixteenth of the time that it was kept, at most: then few
# seconds have entries, even of a server that runs for months.
PRECISION_BITS = 5


class Entry(Protocol):
    """What expires.

    Attributes:
        queued: The second when the agenda has it; `NEVER`: not at all.
    """

    queued: int

    def expire(self, now: float) -> float | None:
        """Drop what has expired, and say when more will; `None`: it is all over."""


EntryT = TypeVar("EntryT", bound=Entry)


class Agenda(Generic[EntryT]):
    """Entries by the second when somebody should see whether they have expired.

    It is about memory alone: whoever reads an entry looks at its times. So it may be late, and an
    entry that is used again and again is not moved: it waits for its turn, and is put back.

    Attributes:
        next: The earliest second of all, perhaps with no entries any more.
    """

    __slots__ = ("_entries", "_seconds", "next")

    def __init__(self) -> None:
        self._entries: dict[int, set[EntryT]] = {}
        self._seconds: list[int] = []  # its keys, as a heap
        self.next = NEVER

    def queue(self, entry: EntryT, due: float, now: float) -> None:
        """Have an entry looked at soon after it is due, unless it is looked at before."""
        if due >= NEVER:
            return
        step = 1 << max(0, int(due - now).bit_length() - PRECISION_BITS)
        second = (int(due) // step + 1) * step
        if second >= entry.queued:
            return
        self.remove(entry)
        entry.queued = second
        entries = self._entries.get(second)
        if entries is not None:
            entries.add(entry)
            return
        self._entries[second] = {entry}
        heappush(self._seconds, second)
        self.next = self._seconds[0]

    def remove(self, entry: EntryT) -> None:
        """Look at an entry no more. Idempotent."""
        if entry.queued < NEVER:
            self._entries[entry.queued].remove(entry)
            entry.queued = NEVER

    def sweep(self, now: float, most: int, forget: Callable[[EntryT], object]) -> None:
        """Look at some entries that are due.

        Args:
            most: How many, at most.
            forget: What to do with those that are all over.
        """
        for _ in range(most):
            if now < self.next:
                return
            entries = self._entries[self.next]
            if not entries:
                del self._entries[heappop(self._seconds)]
                self.next = self._seconds[0] if self._seconds else NEVER
                continue
            entry = entries.pop()
            entry.queued = NEVER
            due = entry.expire(now)
            if due is None:
                forget(entry)
            else:
                self.queue(entry, due, now)
