"""When and whether a client comes back to a hub it has lost (client protocol §7.1, §17)."""

import random
from collections.abc import Callable
from typing import Final

from websockets.frames import Close, CloseCode

__all__ = ["MAX_DELAY", "delay", "is_final"]

MAX_DELAY: Final = 20.0
"""Longest time between two attempts, in seconds."""

# From the first to any time up to the second, which doubles with each attempt.
_MIN_DELAY: Final = 0.1
_FIRST_DELAY: Final = 0.5


def is_final(close: Close) -> bool:
    """Tell whether SDKs do not come back after a close frame."""
    return close.code == CloseCode.MESSAGE_TOO_BIG or (
        close.code >= 3000 and close.code % 1000 >= 500
    )


def delay(
    attempts: int,
    most: float = MAX_DELAY,
    uniform: Callable[[float, float], float] = random.uniform,
) -> float:
    """Return how long to wait after so many attempts: full jitter, so that not all come at once.

    Args:
        most: Longest time in seconds.
        uniform: Where chance comes from.
    """
    upper = min(most, _FIRST_DELAY * 2 ** min(attempts, 10))
    return uniform(min(_MIN_DELAY, upper), upper)
