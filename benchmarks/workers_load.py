"""The load on several workers with a broker: `python -m benchmarks.workers_load NAME JSON`.

Rates are measured as `benchmarks.hub_load` measures a fan-out, with the CPU time of the broker
apart; losses by subscribers that come back whenever they are dropped.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks import load
from benchmarks.client import Client, open_subscribers
from benchmarks.dialects import DIALECTS
from benchmarks.load import run_to_an_event
from benchmarks.losses import Audience, Link, Losses
from benchmarks.publisher import Publisher
from benchmarks.sweep import Sweep
from benchmarks.window import Meter, Window

__all__ = ["measure_losses", "measure_rates"]


def measure_rates(
    workers: Sequence[int],
    broker: int,
    port: int,
    *,
    dialect: str,
    subscribers: int,
    rates: Mapping[str, float],
    size: int,
    warm_up: float,
    seconds: float,
) -> dict[str, Window]:
    """Publish to one channel at one rate after the other; name → what all subscribers received.

    The highest rate comes last: what a server has not come to yet it takes to its grave.
    """
    speech = DIALECTS[dialect]
    channel = "bench:workers"
    clients = open_subscribers(port, speech, [channel] * subscribers)
    windows = {}
    for number, (name, rate) in enumerate(rates.items()):
        client = Client(subscribers + number, port, speech, "")
        publisher = Publisher(client, speech, [channel], size, rate)
        sweep = Sweep(clients, publisher)
        run_to_an_event(sweep.run, warm_up)
        meter = Meter(*workers, broker=broker)
        window = meter.stop(run_to_an_event(sweep.run, seconds))
        windows[name] = replace(window, offered=publisher.published * subscribers)
        client.socket.close()
    return windows


def measure_losses(
    workers: Sequence[int],
    broker: int,
    port: int,
    *,
    dialect: str,
    url: str,
    subscribers: int,
    size: int,
    burst: int,
    rate: float,
    margin: float,
    outage: float,
) -> dict[str, Losses]:
    """Publish a burst; at a rate while the broker's connections are killed; and while it is away.

    Args:
        margin: Seconds to publish before and after that.
        outage: Seconds that the broker is away.
    """
    speech = DIALECTS[dialect]
    link = Link(url)
    before, back = round(rate * margin), round(rate * (margin + outage))
    cases: dict[str, tuple[int, float, dict[int, Callable[[], None]]]] = {
        "burst": (burst, math.inf, {}),
        "killed": (2 * before, rate, {before: link.kill}),
        "outage": (back + before, rate, {before: link.cut, back: link.mend}),
    }
    losses = {}
    for name, (publications, per_second, events) in cases.items():
        with Audience(port, speech, f"bench:{name}", subscribers, size) as audience:
            losses[name] = audience.count_losses(publications, per_second, events)
    return losses


MEASUREMENTS: dict[str, Callable[..., Any]] = {"losses": measure_losses, "rates": measure_rates}


if __name__ == "__main__":
    load.main(MEASUREMENTS)
