"""Memory of the server for each idle subscriber: connected, subscribed, quiet."""

from collections.abc import Sequence

from benchmarks.memory import Growth
from benchmarks.process import Cores, Memory
from benchmarks.rounds import Rounds, Server, play
from benchmarks.side import FoundSide

__all__ = ["CASE", "measure_idle"]

CASE = "idle"


def measure_idle(
    sides: Sequence[FoundSide], cores: Cores, *, rounds: int, subscribers: int, settle: float
) -> Rounds[Growth]:
    """Measure after `settle` seconds of quiet, before and after the subscribers come."""

    def measure(server: Server) -> dict[str, Growth]:
        measured = server.load(
            "idle",
            timeout=settle * 3 + subscribers / 100 + 60,
            subscribers=subscribers,
            settle=settle,
        )
        before, after = Memory(**measured["before"]), Memory(**measured["after"])
        return {CASE: Growth(subscribers, before, after)}

    return play(sides, rounds, cores, measure)
