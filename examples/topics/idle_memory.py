"""Measure what an idle connection costs the server: KiB of memory, on Linux."""

import asyncio
import multiprocessing
import sys
from pathlib import Path
from typing import Any

import uvloop
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve as theirs

from hubbub import serve

SPAWN = multiprocessing.get_context("spawn")
SIDES: dict[str, tuple[Any, str | None]] = {
    "hubbub": (serve, None),
    "hubbub, deflate": (serve, "deflate"),
    "websockets": (theirs, None),
    "websockets, deflate": (theirs, "deflate"),
}


def memory_kib() -> int:
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])


async def listen(pipe: Any, name: str) -> None:
    serve, compression = SIDES[name]
    async with serve(
        lambda ws: ws.wait_closed(), "127.0.0.1", 0, compression=compression
    ) as server:
        pipe.send(server.sockets[0].getsockname()[1])
        while await asyncio.to_thread(pipe.recv):
            pipe.send(memory_kib())


def run(pipe: Any, name: str) -> None:
    uvloop.run(listen(pipe, name))


async def measure(name: str, count: int) -> float:
    pipe, end = SPAWN.Pipe()
    server = SPAWN.Process(target=run, args=(end, name))
    server.start()
    url = f"ws://127.0.0.1:{pipe.recv()}"
    clients, kib = [], []
    for more in (50, count):  # the first ones pay for what is allocated once
        clients += [await connect(url) for _ in range(more)]
        pipe.send(True)
        kib.append(int(pipe.recv()))
    server.kill()
    server.join()
    return (kib[1] - kib[0]) / count


if __name__ == "__main__":
    for side in SIDES:
        print(f"{side:20} {asyncio.run(measure(side, int(sys.argv[1]))):5.1f} KiB per connection")
