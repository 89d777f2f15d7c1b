"""What a supervisor tells a worker: which of how many it is, and where it listens."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from hubbub.brokers.opening import WORKER_VARIABLE

__all__ = ["Assignment"]

_SOCKETS: Final = "HUBBUB_WORKER_SOCKETS"


@dataclass(frozen=True, slots=True)
class Assignment:
    """A worker's part, which it finds in its environment.

    Attributes:
        number: From 1; the successor of a worker has its number.
        workers: How many there are.
        fds: Descriptors of its listening sockets; never none.
    """

    number: int
    workers: int
    fds: tuple[int, ...]

    def environment(self) -> Mapping[str, str]:
        """Return the variables that say it."""
        return {
            WORKER_VARIABLE: f"{self.number}/{self.workers}",
            _SOCKETS: ",".join(map(str, self.fds)),
        }

    @classmethod
    def take(cls) -> Self | None:
        """Find what this process was told; `None`: it is no worker.

        The sockets are taken out of the environment: a program that the application starts is no
        worker, though it may want to know whose child it is.
        """
        fds = os.environ.pop(_SOCKETS, None)
        if fds is None:
            return None
        number, _, workers = os.environ[WORKER_VARIABLE].partition("/")
        return cls(int(number), int(workers), tuple(map(int, fds.split(","))))
