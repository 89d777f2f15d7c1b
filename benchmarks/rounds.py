"""Rounds: every side in turn, again and again, so that noise hits all alike."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from benchmarks.process import ChildFailed, Cores, run_child, serving
from benchmarks.side import FoundSide

__all__ = ["Rounds", "Server", "play", "take_turns"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs, and the way to put the load to it.

    dialect: how to subscribe and publish there (`benchmarks.dialects`); empty: it only echoes.
    """

    pid: int
    port: int
    cores: Cores
    dialect: str = ""

    def load(self, name: str, timeout: float, **arguments: Any) -> dict[str, Any]:
        """Run one measurement on the other core: of `benchmarks.hub_load` if there is a dialect.

        Raises:
            ChildFailed: The server did not behave, or not within the timeout in seconds.
        """
        parameters = {"pid": self.pid, "port": self.port, **arguments}
        module = "benchmarks.load"
        if self.dialect:
            module, parameters["dialect"] = "benchmarks.hub_load", self.dialect
        command = [sys.executable, "-m", module, name, json.dumps(parameters)]
        result: dict[str, Any] = json.loads(run_child(command, self.cores.load, timeout))
        return result


@dataclass(slots=True)
class Rounds(Generic[T]):
    """What was measured. results: side → case → one value per round; failures: side → reason."""

    results: dict[str, dict[str, list[T]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def play(
    sides: Sequence[FoundSide],
    rounds: int,
    cores: Cores,
    measure: Callable[[Server], Mapping[str, T]],
) -> Rounds[T]:
    """Measure each side once a round, in a fresh process; see `take_turns`."""

    def serve_and_measure(found: FoundSide) -> Mapping[str, T]:
        with serving(found.command, cores.server) as (pid, port):
            return measure(Server(pid, port, cores, found.side.dialect))

    return take_turns(sides, rounds, serve_and_measure)


def take_turns(
    sides: Sequence[FoundSide], rounds: int, measure: Callable[[FoundSide], Mapping[str, T]]
) -> Rounds[T]:
    """Measure each side once a round; begin each round with another side.

    A side that fails once is out: it is named in the failures, and the others go on.
    """
    played: Rounds[T] = Rounds()
    for number in range(rounds):
        start = number % max(1, len(sides))
        for found in [*sides[start:], *sides[:start]]:
            name = found.side.name
            if name in played.failures:
                continue
            _progress(f"round {number + 1} of {rounds}: {found.side.title}")
            try:
                measured = measure(found)
            except ChildFailed as exc:
                played.results.pop(name, None)
                played.failures[name] = str(exc)
                continue
            cases = played.results.setdefault(name, {})
            for case, value in measured.items():
                cases.setdefault(case, []).append(value)
    _progress("")
    return played


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr)
