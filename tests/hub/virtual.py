"""An event loop with a time of its own: what is due happens at once, and nothing by chance."""

import asyncio
import selectors
from collections.abc import Callable

from tests.timing import MS

__all__ = ["VirtualLoop"]

WORK_TIMEOUT = 5_000 * MS


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer as soon as nothing else is to do.

    For what does without sockets: waiting for one fails as a deadlock.

    Attributes:
        busy: Whether a thread is at work whose result is waited for; time stands still then.
    """

    def __init__(self) -> None:
        self.now = 1_000.0
        self.busy: Callable[[], bool] = lambda: False
        super().__init__(_Instant(self))

    def time(self) -> float:
        return self.now


class _Instant(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout != 0 and self._loop.busy():
            return super().select(WORK_TIMEOUT)
        assert timeout is not None, "nothing will ever happen: a deadlock"
        self._loop.now += max(0.0, timeout)
        return super().select(0)
