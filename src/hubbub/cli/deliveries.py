"""What a subscriber got of a publisher: each number once and in order, or which fault instead."""

from typing import Final

__all__ = ["MAX_MISSING", "Deliveries"]

MAX_MISSING: Final = 1000
"""Most missing numbers that are remembered by name; older ones count as lost for good."""


class Deliveries:
    """The numbers of one publisher, from 0 on, as one subscriber receives them.

    Attributes:
        next: The number that is in order.
        duplicates: How many came again.
        reordered: How many came after a later one.
    """

    __slots__ = ("_given_up", "_missing", "duplicates", "next", "reordered")

    def __init__(self) -> None:
        self.next = 0
        self.duplicates = 0
        self.reordered = 0
        self._missing: set[int] = set()
        self._given_up = 0

    def count(self, number: int) -> bool:
        """Take a number; return whether it is the first time that it comes."""
        if number == self.next:  # the usual case; those who have no time compare themselves
            self.next = number + 1
            return True
        if number > self.next:
            named = max(self.next, number - MAX_MISSING)
            self._missing.update(range(named, number))
            self._given_up += named - self.next
            self._forget()
            self.next = number + 1
            return True
        if number in self._missing:
            self._missing.remove(number)
            self.reordered += 1
            return True
        self.duplicates += 1
        return False

    def lost(self, published: int | None = None) -> int:
        """Return how many did not come.

        Args:
            published: How many there were. `None`: not known; counts up to the last that came.
        """
        behind = 0 if published is None else max(0, published - self.next)
        return self._given_up + len(self._missing) + behind

    def _forget(self) -> None:
        excess = len(self._missing) - MAX_MISSING
        if excess > 0:
            self._missing.difference_update(sorted(self._missing)[:excess])
            self._given_up += excess
