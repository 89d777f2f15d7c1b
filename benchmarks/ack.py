"""Closed loop through a hub: publish, acknowledgement, own publication, and again."""

from collections.abc import Sequence

from benchmarks.fanout import MAX_SECONDS, SIZE, verify
from benchmarks.process import Cores
from benchmarks.rounds import Rounds, Server, play
from benchmarks.side import FoundSide
from benchmarks.window import Window, warm_up

__all__ = ["CASE", "measure_ack"]

CASE = "ack"


def measure_ack(
    sides: Sequence[FoundSide], cores: Cores, *, rounds: int, seconds: float, connections: int
) -> Rounds[Window]:
    seconds = min(seconds, MAX_SECONDS)

    def measure(server: Server) -> dict[str, Window]:
        verify(server)
        window = server.load(
            "ack",
            timeout=seconds * 4 + 80,
            connections=connections,
            size=SIZE,
            warm_up=warm_up(seconds),
            seconds=seconds,
        )
        return {CASE: Window(**window)}

    return play(sides, rounds, cores, measure)
