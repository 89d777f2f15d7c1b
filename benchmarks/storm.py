"""A recovery storm: thousands of clients come back at once, and want what they missed.

`cut`: their connections broke, and the server lived on. `restart`: the server was killed and
started again, and time counts from when it listens.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.broker import running_broker
from benchmarks.fanout import SIZE
from benchmarks.process import Cores, run_child
from benchmarks.rounds import Rounds, take_turns
from benchmarks.side import FoundSide
from benchmarks.storm_load import Storm
from benchmarks.window import Window

__all__ = ["CASES", "CHANNELS", "MISSED", "ROUNDS", "measure_storm"]

CASES = {"cut": "All connections cut", "restart": "Server killed and started again"}
"""Name → title."""

CHANNELS = 50
"""Over which the clients spread."""

MISSED = 500
"""Publications while the clients are away, in the channels in turn."""

ROUNDS = 2  # at most: each takes more than a minute


def measure_storm(
    sides: Sequence[FoundSide], cores: Cores, *, rounds: int, clients: int
) -> Rounds[Storm]:
    def measure(found: FoundSide) -> dict[str, Storm]:
        with running_broker(found.side.broker, cores.server) as (broker, url):
            parameters = {
                "command": [*found.command, "0", url],
                "core": cores.server,
                "broker": broker,
                "dialect": found.side.dialect,
                "clients": clients,
                "channels": CHANNELS,
                "missed": MISSED,
                "size": SIZE,
                # What is in a server's memory alone, it cannot bring back.
                "restart": found.side.broker in {"sqlite", "valkey"},
            }
            command = [
                sys.executable,
                "-m",
                "benchmarks.storm_load",
                "storm",
                json.dumps(parameters),
            ]
            measured = json.loads(run_child(command, cores.load, timeout=240))
        return {case: _storm(values) for case, values in measured.items()}

    return take_turns(sides, min(rounds, ROUNDS), measure)


def _storm(values: dict[str, Any]) -> Storm:
    return Storm(**{**values, "window": Window(**values["window"])})
