"""How much memory programs take, all along a run."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

__all__ = ["MIB", "Level"]

MIB = 1 << 20
_LOOK = 0.2


class Level:
    """The most that one of several programs takes, in bytes.

    Attributes:
        last: As it was read last.
        highest: Since the last `reset`.
    """

    def __init__(self, read: Callable[[], Sequence[int]]) -> None:
        self._read = read
        self.last = 0
        self.highest = 0

    def now(self) -> int:
        """Read it."""
        self.last = max(self._read(), default=0)
        self.highest = max(self.highest, self.last)
        return self.last

    def reset(self) -> None:
        """Forget what was."""
        self.highest = 0

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Read it again and again until the block ends."""
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()

    async def _watch(self) -> None:
        while True:
            self.now()
            await asyncio.sleep(_LOOK)
