"""A process that publishes until it is killed, and says what was acknowledged.

Each line of its output is one acknowledged publication: channel, payload, epoch, offset.
"""

import asyncio
import os
import sys

from hubbub.brokers.sqlite import SqliteBroker
from hubbub.model import Publication


class Deaf:
    def deliver(self, channel: str, event: object) -> None:
        pass

    def control(self, message: bytes) -> None:
        pass

    def suspect(self, channels: object) -> None:
        pass


async def publish(broker: SqliteBroker, number: int, prefix: str) -> None:
    channel = f"channel-{number % 3}"
    for n in range(1_000_000):
        name = f"{prefix}-{number}-{n}"
        position = await broker.publish(
            channel,
            Publication(name.encode()),
            history_size=1_000_000,
            history_ttl=3_600.0,
            idempotency_key=name,
        )
        os.write(1, f"{channel} {name} {position.epoch} {position.offset}\n".encode())


async def main(path: str, prefix: str, synchronous: str) -> None:
    assert synchronous in ("full", "normal")
    broker = SqliteBroker(path, synchronous="full" if synchronous == "full" else "normal")
    async with broker.running(Deaf()), asyncio.TaskGroup() as group:
        for number in range(7):
            group.create_task(publish(broker, number, prefix))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
