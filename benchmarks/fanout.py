"""Fan-out: one publisher, many subscribers of one channel; deliveries per second of CPU."""

from collections.abc import Sequence

from benchmarks.process import Cores
from benchmarks.rounds import Rounds, Server, play
from benchmarks.side import FoundSide
from benchmarks.window import Window, warm_up

__all__ = ["MAX_SECONDS", "RATES", "SIZE", "measure_fanout", "verify"]

RATES = {"60": 60.0, "1000": 1000.0, "3000": 3000.0}
"""Publications per second, by name of the case."""

SIZE = 128
"""Of a payload in bytes."""

MAX_SECONDS = 8.0
"""Longest window: the load does not answer pings, and a hub sends the first after 12 seconds."""


def measure_fanout(
    sides: Sequence[FoundSide], cores: Cores, *, rounds: int, seconds: float, subscribers: int
) -> Rounds[Window]:
    """Verify a side, then measure the rates one after the other on the same server process."""
    seconds = min(seconds, MAX_SECONDS)

    def measure(server: Server) -> dict[str, Window]:
        verify(server)
        return {
            case: Window(
                **server.load(
                    "fanout",
                    timeout=seconds * 4 + 80 + subscribers / 100,
                    subscribers=subscribers,
                    rate=rate,
                    size=SIZE,
                    warm_up=warm_up(seconds),
                    seconds=seconds,
                )
            )
            for case, rate in RATES.items()
        }

    return play(sides, rounds, cores, measure)


def verify(server: Server) -> None:
    """Let a few subscribers check that they get all of 200 publications once and in order.

    Raises:
        ChildFailed: They did not.
    """
    server.load("verify", timeout=80, subscribers=20, publications=200, size=SIZE, rate=1000.0)
