"""How long things took, counted in buckets: memory does not grow with the number of messages."""

from collections import defaultdict

__all__ = ["Latencies"]


class Latencies(defaultdict[int, int]):
    """Counts by whole microseconds; above 10 ms by tenths of a millisecond.

    Whoever measures adds with `latencies[Latencies.bucket(seconds)] += 1`.
    """

    def __init__(self) -> None:
        super().__init__(int)

    @staticmethod
    def bucket(seconds: float) -> int:
        """Return the bucket for a time: its microseconds, at most 1 % less."""
        microseconds = int(seconds * 1e6)
        return microseconds if microseconds < 10_000 else microseconds - microseconds % 100

    def total(self) -> int:
        """Return how many were counted."""
        return sum(self.values())

    def percentile_ms(self, percent: float) -> float:
        """Return the least time, in milliseconds, that `percent` of all did not exceed.

        Args:
            percent: Above 0; 100 for the longest time.

        Raises:
            ValueError: Nothing was counted.
        """
        if not self:
            raise ValueError("nothing was counted")
        # Ranks begin at 1 (nearest-rank method), so of one value every percentile is that value.
        rank = max(1.0, self.total() * percent / 100)
        seen = 0
        for microseconds in sorted(self):
            seen += self[microseconds]
            if seen >= rank:
                break
        return microseconds / 1000
