"""A window of measurement: how many events, how long, and who used how much CPU meanwhile."""

import time
from dataclasses import dataclass

from benchmarks.process import cpu_seconds, machine_cpu_seconds

__all__ = ["ENOUGH", "Meter", "TimedWindow", "Window", "warm_up"]

ENOUGH = 0.99  # of what was offered: less, and the server was overrun


@dataclass(frozen=True, slots=True)
class Window:
    """Times in seconds; CPU times are of the server, of the load and of all other processes.

    offered: how many events there should have been at the rate of the load; 0: as many as can be.
    broker_cpu: what a broker of its own used of the server's CPU time.
    """

    events: int
    seconds: float
    server_cpu: float
    load_cpu: float
    other_cpu: float
    offered: int = 0
    broker_cpu: float = 0.0

    @property
    def share(self) -> float | None:
        """Share of the offered events that there were; about 1, as windows cut through some."""
        return self.events / self.offered if self.offered else None

    @property
    def is_overrun(self) -> bool:
        """Whether the server could not do all that was offered."""
        return self.share is not None and self.share < ENOUGH

    @property
    def per_cpu_second(self) -> float:
        """Events per second of CPU that the server used. A bit at least: no division by 0."""
        return self.events / max(self.server_cpu, 1e-4)

    @property
    def per_second(self) -> float:
        return self.events / self.seconds

    @property
    def server_use(self) -> float:
        """Share of one core that the server used."""
        return self.server_cpu / self.seconds

    @property
    def load_use(self) -> float:
        """Share of one core that the load used: near 1, the load may have been the limit."""
        return self.load_cpu / self.seconds

    @property
    def other_use(self) -> float:
        """Share of one core that nobody here used: near 0, the machine was quiet."""
        return max(self.other_cpu, 0.0) / self.seconds


@dataclass(frozen=True, slots=True)
class TimedWindow:
    """A window in which each event was timed; median and 99th percentile in seconds."""

    window: Window
    p50: float
    p99: float


class Meter:
    """The clocks at the start of a window; read by the load process itself.

    Args:
        pids: Of the server's processes, without its broker.
        broker: Its process id; 0: there is none.
    """

    def __init__(self, *pids: int, broker: int = 0) -> None:
        self._pids = pids
        self._broker = broker
        self._start = self._read()

    def stop(self, events: int) -> Window:
        seconds, workers, broker, load, machine = (
            now - then for now, then in zip(self._read(), self._start, strict=True)
        )
        server = workers + broker
        other = machine - server - load
        return Window(events, seconds, server, load, other, broker_cpu=broker)

    def _read(self) -> tuple[float, float, float, float, float]:
        return (
            time.monotonic(),
            sum(map(cpu_seconds, self._pids)),
            cpu_seconds(self._broker) if self._broker else 0.0,
            time.process_time(),
            machine_cpu_seconds(),
        )


def warm_up(seconds: float) -> float:
    """Say how long to warm up before a window of so many seconds.

    Node's compiler is the slowest: `ws` reaches its speed after half a second of echo.
    """
    return min(0.75, seconds / 2)
