"""A token bucket: how often something may happen, and how much of it at once."""

__all__ = ["TokenBucket"]


class TokenBucket:
    """Admits `burst` events at once and `rate` per second in the long run.

    In any stretch of time of `t` seconds no more than `burst + rate * t` are admitted. An event
    that is refused costs nothing.

    Args:
        rate: Events per second, above 0.
        burst: Events at once, at least 1.
        now: The time in seconds, of any clock that only grows; of the same one as in `take`.

    Raises:
        ValueError: The rate or the burst is too small.
    """

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        if not rate > 0:
            raise ValueError(f"rate must be above 0, not {rate:g}")
        if burst < 1:
            raise ValueError(f"burst must be 1 or more, not {burst}")
        self._rate = rate
        self._burst = float(burst)
        self._left = self._burst
        self._at = now

    def take(self, now: float) -> bool:
        """Tell whether an event may happen now; if so, it is counted."""
        if now > self._at:
            left = self._left + (now - self._at) * self._rate
            self._left = left if left < self._burst else self._burst
            self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
