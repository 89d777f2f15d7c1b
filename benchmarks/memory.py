"""Memory of the server for each idle connection."""

import resource
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.process import Cores, Memory
from benchmarks.rounds import Rounds, Server, play
from benchmarks.side import FoundSide

__all__ = ["CASE", "ROUNDS", "Growth", "measure_memory", "raise_open_files"]

CASE = "memory"
ROUNDS = 2  # at most: memory is steadier than time


@dataclass(frozen=True, slots=True)
class Growth:
    """Memory before and after so many connections were opened."""

    connections: int
    before: Memory
    after: Memory

    @property
    def rss(self) -> float:
        """Resident bytes per connection."""
        return (self.after.rss - self.before.rss) / self.connections

    @property
    def pss(self) -> float:
        return (self.after.pss - self.before.pss) / self.connections

    @property
    def uss(self) -> float:
        """Private bytes per connection: what would be free without it."""
        return (self.after.uss - self.before.uss) / self.connections


def measure_memory(
    sides: Sequence[FoundSide], cores: Cores, *, rounds: int, connections: int, settle: float
) -> Rounds[Growth]:
    """Measure after `settle` seconds of quiet, before and after the connections are opened."""

    def measure(server: Server) -> dict[str, Growth]:
        measured = server.load(
            "idle",
            timeout=settle * 3 + connections / 100 + 60,
            path="/text",
            connections=connections,
            settle=settle,
        )
        before, after = Memory(**measured["before"]), Memory(**measured["after"])
        return {CASE: Growth(connections, before, after)}

    return play(sides, rounds, cores, measure)


def raise_open_files(connections: int) -> int:
    """Let this process and its children open enough sockets; return how many connections fit."""
    spare = 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + spare
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return connections if soft == resource.RLIM_INFINITY else min(connections, soft - spare)
