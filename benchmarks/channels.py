"""Many channels of one subscriber each: what a publication costs that is for one, and its latency.

Half load is the rate at which a server uses half of its core: where queues begin to show, and a
fair place to compare latencies of servers that differ in speed. It is found by rule of three from
the use at 3,000 publications per second, and again from what comes of that, as batches get cheaper
with the rate: three times at most.
"""

from collections.abc import Sequence

from benchmarks.fanout import MAX_SECONDS, SIZE, verify
from benchmarks.process import Cores
from benchmarks.rounds import Rounds, Server, play
from benchmarks.side import FoundSide
from benchmarks.window import TimedWindow, Window, warm_up

__all__ = ["HALF", "MAX_RATE", "RATES", "measure_channels"]

RATES = {"1000": 1000.0, "3000": 3000.0}
"""Publications per second, by name of the case."""

HALF = "half"
"""The case of half load."""

MIN_RATE, MAX_RATE = 100.0, 15_000.0
"""Limits of half load; above the upper one the load would measure itself."""

PROBES, TOLERANCE = 3, 0.05


def measure_channels(
    sides: Sequence[FoundSide], cores: Cores, *, rounds: int, seconds: float, channels: int
) -> Rounds[TimedWindow]:
    seconds = min(seconds, MAX_SECONDS)

    def measure(server: Server) -> dict[str, TimedWindow]:
        verify(server)

        def at_rate(rate: float, seconds: float = seconds) -> TimedWindow:
            timed = server.load(
                "channels",
                timeout=seconds * 4 + 80 + channels / 100,
                channels=channels,
                rate=rate,
                size=SIZE,
                warm_up=warm_up(seconds),
                seconds=seconds,
            )
            return TimedWindow(Window(**timed["window"]), timed["p50"], timed["p99"])

        windows = {case: at_rate(rate) for case, rate in RATES.items()}
        rate, last = RATES["3000"], windows["3000"].window
        for _ in range(PROBES):
            rate = halve(rate, last)
            if rate in {MIN_RATE, MAX_RATE}:
                break
            last = at_rate(rate, seconds / 2).window
            if abs(last.server_use - 0.5) < TOLERANCE:
                break
        return {**windows, HALF: at_rate(rate)}

    return play(sides, rounds, cores, measure)


def halve(rate: float, window: Window) -> float:
    """Say at which rate the server would use half a core, from its use at another."""
    return min(MAX_RATE, max(MIN_RATE, rate * 0.5 / max(window.server_use, 0.01)))
