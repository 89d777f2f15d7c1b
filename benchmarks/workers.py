"""Several workers with a broker: what a delivery costs all of them, and what is lost.

All workers and the broker share the server's core: what counts is the CPU time of all of them for
a delivery, and the load keeps its own core.
"""

import json
import socket
import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.broker import running_broker
from benchmarks.fanout import MAX_SECONDS, SIZE
from benchmarks.losses import Losses
from benchmarks.process import ChildFailed, Cores, run_child, serving
from benchmarks.rounds import Rounds, take_turns
from benchmarks.side import FoundSide
from benchmarks.window import Window

__all__ = [
    "BURST",
    "LOSS_ROUNDS",
    "PROCESSES",
    "RATE",
    "RATES",
    "WATCHERS",
    "Cluster",
    "case_name",
    "measure_losses",
    "measure_workers",
    "running_cluster",
]

PROCESSES = (1, 2)
"""How many workers there are."""

RATES = {"10": 10.0, "200": 200.0}
"""Publications per second, by name; the highest last."""

BURST = 300
"""Publications at once, to see who drops some."""

RATE = 60.0
"""Publications per second while the broker's connections are killed, and while it is away."""

MARGIN, OUTAGE = 1.0, 2.0
"""Seconds before and after, and during which the broker is away; at most."""

WATCHERS = 50
"""Subscribers that count losses."""

WARM_UP = 0.3  # seconds: all sides are Python, without a compiler that has to warm up

LOSS_ROUNDS = 1
"""At most: a round takes a minute, and losses depend little on the neighbours of the machine."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Workers that share a port and a broker. broker: its process id, or 0."""

    workers: Sequence[int]
    broker: int
    url: str
    port: int
    cores: Cores
    dialect: str

    def load(self, name: str, timeout: float, **arguments: Any) -> dict[str, Any]:
        """Run one measurement of `benchmarks.workers_load` on the load's core.

        Raises:
            ChildFailed: The workers did not behave, or not within the timeout in seconds.
        """
        parameters = {
            "workers": self.workers,
            "broker": self.broker,
            "port": self.port,
            "dialect": self.dialect,
            **arguments,
        }
        command = [sys.executable, "-m", "benchmarks.workers_load", name, json.dumps(parameters)]
        result: dict[str, Any] = json.loads(run_child(command, self.cores.load, timeout))
        return result


def measure_workers(
    sides: Sequence[FoundSide], cores: Cores, *, rounds: int, seconds: float, subscribers: int
) -> Rounds[Window]:
    """Measure deliveries at all rates for each number of workers; see `case_name`."""
    seconds = min(seconds, MAX_SECONDS)

    def measure(found: FoundSide) -> dict[str, Window]:
        windows = {}
        for processes in PROCESSES:
            with running_cluster(found, processes, cores) as cluster:
                measured = cluster.load(
                    "rates",
                    timeout=seconds * 8 + 80 + subscribers / 20,
                    subscribers=subscribers,
                    rates=RATES,
                    size=SIZE,
                    warm_up=min(WARM_UP, seconds),
                    seconds=seconds,
                )
            for name, window in measured.items():
                windows[case_name(processes, name)] = Window(**window)
        return windows

    return take_turns(sides, rounds, measure)


def measure_losses(
    sides: Sequence[FoundSide], cores: Cores, *, rounds: int, seconds: float
) -> Rounds[Losses]:
    """Count losses with the most workers there are, in the cases `burst`, `killed`, `outage`.

    Below a second, `seconds` makes it all shorter.
    """
    scale = min(seconds, 1.0)

    def measure(found: FoundSide) -> dict[str, Losses]:
        with running_cluster(found, max(PROCESSES), cores) as cluster:
            measured = cluster.load(
                "losses",
                timeout=180,
                url=cluster.url,
                subscribers=WATCHERS,
                size=SIZE,
                burst=BURST,
                rate=RATE,
                margin=MARGIN * scale,
                outage=OUTAGE * scale,
            )
        return {case: Losses(**losses) for case, losses in measured.items()}

    return take_turns(sides, min(rounds, LOSS_ROUNDS), measure)


def case_name(processes: int, rate: str) -> str:
    return f"{processes}x{rate}"


@contextmanager
def running_cluster(
    found: FoundSide, processes: int, cores: Cores
) -> Generator[Cluster, None, None]:
    """Start the broker of a side, and workers that share a port.

    Raises:
        ChildFailed: One does not start.
    """
    with ExitStack() as stack:
        broker, url = stack.enter_context(running_broker(found.side.broker, cores.server))
        port = stack.enter_context(reserved_port())
        workers = []
        for _ in range(processes):
            command = [*found.command, str(port), url]
            pid, bound = stack.enter_context(serving(command, cores.server))
            if bound != port:
                raise ChildFailed(f"a worker listens on {bound}, not on {port}")
            workers.append(pid)
        yield Cluster(workers, broker, url, port, cores, found.side.dialect)


@contextmanager
def reserved_port() -> Generator[int, None, None]:
    """Yield a free port that several processes may share."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
