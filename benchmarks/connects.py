"""Connections per second: TCP, upgrade until the 101 is read, closing handshake."""

from collections.abc import Sequence

from benchmarks.process import Cores
from benchmarks.rounds import Rounds, Server, play
from benchmarks.side import FoundSide
from benchmarks.window import Window, warm_up

__all__ = ["CASE", "SLOTS", "measure_connects"]

CASE = "connects"
SLOTS = 50  # connections at a time; less than any server's backlog


def measure_connects(
    sides: Sequence[FoundSide], cores: Cores, *, rounds: int, seconds: float
) -> Rounds[Window]:
    def measure(server: Server) -> dict[str, Window]:
        return {
            CASE: Window(
                **server.load(
                    "connects",
                    timeout=seconds * 4 + 80,
                    path="/text",
                    slots=SLOTS,
                    warm_up=warm_up(seconds),
                    seconds=seconds,
                )
            )
        }

    return play(sides, rounds, cores, measure)
