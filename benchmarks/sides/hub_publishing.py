"""Publishing in the process of a hub: `hub_publishing BROKER {"publishers": 64, ...}`."""

import asyncio
import json
import sys
import tempfile
import time
from statistics import quantiles
from typing import Any

import uvloop

from benchmarks.process import machine_cpu_seconds
from hubbub import Hub

MESSAGE = {"text": "x" * 100}


async def measure(
    broker: str, *, publishers: int, warm_up: float, seconds: float
) -> dict[str, Any]:
    hub = Hub(broker)
    hub.channel("news:{n}", history=100)
    times: list[float] = []
    start = time.monotonic() + warm_up
    end = start + seconds

    async def publish(channel: str) -> None:
        while (asked := time.monotonic()) < end:
            await hub.publish(channel, MESSAGE)
            if asked >= start:
                times.append(time.monotonic() - asked)
            # The turn of another: with the broker in memory nothing else would suspend.
            await asyncio.sleep(0)

    async with hub, asyncio.TaskGroup() as group:
        for n in range(publishers):
            group.create_task(publish(f"news:{n}"))
        await asyncio.sleep(warm_up)
        cpu, machine, begun = time.process_time(), machine_cpu_seconds(), time.monotonic()
        await asyncio.sleep(end - begun)
        cpu, machine = time.process_time() - cpu, machine_cpu_seconds() - machine
        took = time.monotonic() - begun
    percentiles = quantiles(times, n=100)
    return {
        "window": {
            "events": len(times),
            "seconds": took,
            "server_cpu": cpu,
            "load_cpu": 0.0,
            "other_cpu": machine - cpu,
        },
        "p50": percentiles[49],
        "p99": percentiles[98],
    }


def main() -> None:
    broker, arguments = sys.argv[1], json.loads(sys.argv[2])
    with tempfile.TemporaryDirectory() as directory:
        url = broker.replace("DIRECTORY", directory)
        print(json.dumps(uvloop.run(measure(url, **arguments))))


if __name__ == "__main__":
    main()
