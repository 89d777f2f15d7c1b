"""Closed-loop echo: messages per second of the server's CPU."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.process import Cores
from benchmarks.rounds import Rounds, Server, play
from benchmarks.side import FoundSide
from benchmarks.window import Window, warm_up
from benchmarks.wire import BINARY, TEXT

__all__ = ["CASES", "Case", "measure_echo"]


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    title: str
    path: str
    opcode: int
    size: int


CASES = (
    Case("text-64", "64 B text", "/text", TEXT, 64),
    Case("text-1024", "1 KiB text", "/text", TEXT, 1024),
    Case("binary-64", "64 B binary", "/binary", BINARY, 64),
)


def measure_echo(
    sides: Sequence[FoundSide],
    cores: Cores,
    *,
    rounds: int,
    seconds: float,
    connections: int,
    drag: float = 0.0,
) -> Rounds[Window]:
    """Measure all cases of a side one after the other on the same server process.

    drag: seconds that the load wastes for each message, to see what a slower load would change.
    """

    def measure(server: Server) -> dict[str, Window]:
        return {
            case.name: Window(
                **server.load(
                    "echo",
                    timeout=seconds * 4 + 80,
                    path=case.path,
                    opcode=case.opcode,
                    size=case.size,
                    connections=connections,
                    warm_up=warm_up(seconds),
                    seconds=seconds,
                    drag=drag,
                )
            )
            for case in CASES
        }

    return play(sides, rounds, cores, measure)
