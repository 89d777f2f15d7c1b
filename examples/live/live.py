"""This machine, twice a second: `hubbub run live:routes --http live:http`."""

import asyncio
import os
import platform
import time
from pathlib import Path

import msgspec
import psutil

from hubbub import Hub
from hubbub.http import pages

INTERVAL = 0.5  # seconds

hub = Hub()
routes = {"/connection/websocket": hub}
http = pages(Path(__file__).with_name("page"))


class Snapshot(msgspec.Struct):
    """All there is to know. What stays the same comes first, where a patch skips it at once."""

    machine: str
    memory_total: int  # bytes
    time: float  # Unix seconds
    cores: list[float]  # percent
    cpu: float
    memory_used: int
    received: int  # bytes a second
    sent: int
    deliveries: int  # a second
    clients: int


hub.channel("live", Snapshot, history=240, ttl=240 * INTERVAL, delta=True)


@hub.background
async def publish() -> None:
    if not os.environ.get("HUBBUB_WORKER", "1/1").startswith("1/"):
        return  # of several workers, one measures
    loop = asyncio.get_running_loop()
    psutil.cpu_percent(percpu=True)  # each call measures since the one before
    before, tick = count(), loop.time() // INTERVAL + 1
    while True:
        # On the next tick there is: what a snapshot takes does not add up.
        tick = max(tick + 1, loop.time() // INTERVAL)
        await asyncio.sleep(tick * INTERVAL - loop.time())
        now = count()
        # The key: while a worker is replaced, there are two for a moment.
        await hub.publish("live", measure(before, now), idempotency_key=f"{tick:.0f}")
        before = now


def count() -> tuple[float, int, int, int]:
    """Read what only grows: the clock, bytes received and sent, deliveries."""
    network = psutil.net_io_counters()
    return time.monotonic(), network.bytes_recv, network.bytes_sent, hub.deliveries


def measure(before: tuple[float, ...], now: tuple[float, ...]) -> Snapshot:
    """Make a snapshot, in a quarter of a millisecond: not worth a thread."""
    seconds, *grown = (new - old for old, new in zip(before, now, strict=True))
    received, sent, deliveries = (max(0, round(more / seconds)) for more in grown)
    cores, memory = psutil.cpu_percent(percpu=True), psutil.virtual_memory()
    return Snapshot(
        machine=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        memory_total=memory.total,
        time=round(time.time(), 3),
        cores=cores,
        cpu=round(sum(cores) / len(cores), 1),
        memory_used=memory.total - memory.available,
        received=received,
        sent=sent,
        deliveries=deliveries,
        clients=len(hub.clients()),
    )
