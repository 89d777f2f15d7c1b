"""Positions compared with the broker's, so that whoever has missed something is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

from hubbub.errors import BrokerError
from hubbub.hub.group import Group
from hubbub.model import Position

if TYPE_CHECKING:
    from hubbub.hub.node import Node

__all__ = ["DELIVERY_TIME", "Positions"]

DELIVERY_TIME = 0.2
"""Seconds that a broker may take to deliver what its history has already."""

RETRY_DELAY = 0.5
"""Seconds after which a comparison that failed is tried again."""

BATCH = 500
"""Channels that are asked about at a time."""


class Positions:
    """Compares, one round after another, what is suspected.

    A channel stays suspected until it has been compared: a broker that fails is asked again.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._suspected: dict[str, None] = {}
        self._work = asyncio.Event()

    def suspect(self, channels: Iterable[str]) -> None:
        """Have channels compared soon; again, if that is being done."""
        self._suspected.update(dict.fromkeys(channels))
        self._work.set()

    async def run(self) -> None:
        """Compare until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            suspected, self._suspected = self._suspected, {}
            failed = await self._compare(suspected)
            if failed:
                await asyncio.sleep(RETRY_DELAY)
                self.suspect(failed)

    async def _compare(self, channels: Iterable[str]) -> list[str]:
        """Compare channels; return those of which the broker said nothing."""
        tops: list[tuple[Group, Position | None, Position]] = []
        failed: list[str] = []
        problem: BrokerError | None = None

        async def read(channel: str, group: Group) -> None:
            nonlocal problem
            before = group.position
            meta_ttl = group.declaration.options.meta_ttl
            try:
                page = await self._node.broker.history(channel, limit=0, meta_ttl=meta_ttl)
            except BrokerError as exc:
                problem = exc
                failed.append(channel)
            else:
                tops.append((group, before, page.position))

        groups = self._node.registry.groups
        waiting = iter(channels)
        while batch := list(islice(waiting, BATCH)):
            async with asyncio.TaskGroup() as tasks:
                for channel in batch:
                    group = groups.get(channel)
                    if group is not None and group.positioned:
                        tasks.create_task(read(channel, group))
            if failed:
                # It fails for the rest as well, more likely than not.
                failed += waiting
        if problem is not None:
            self._node.logger.warning(
                "the positions of %d channels are not known to be right: %s", len(failed), problem
            )
        if tops:
            # What was published before the answer may still be on its way.
            await asyncio.sleep(DELIVERY_TIME)
        for group, before, top in tops:
            if groups.get(group.channel) is group:
                lost = group.compare(top, before)
                if lost:
                    self._node.unsubscriber.lose(lost)
        return failed
