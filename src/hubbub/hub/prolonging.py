"""Presence prolonged, at brokers that forget it."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING

from hubbub.errors import BrokerError

if TYPE_CHECKING:
    from hubbub.hub.node import Node
    from hubbub.hub.subscription import Subscription

__all__ = ["Prolonging"]

RETRY_DELAY = 1.0
"""Seconds after which a round that failed is tried again."""

BATCH = 500
"""Entries that are prolonged at a time."""


class Prolonging:
    """Enters everybody who is present again, whenever it is due, one round after another."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._due = asyncio.Event()

    def due(self) -> None:
        """Have a round begin, now or after the present one."""
        self._due.set()

    async def run(self) -> None:
        """Do it until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            if not await self._prolong():
                await asyncio.sleep(RETRY_DELAY)
                self._due.set()

    async def _prolong(self) -> bool:
        """Enter everybody; whether all of it was done."""
        problems: list[BrokerError] = []

        async def prolong(subscription: Subscription) -> None:
            try:
                await self._enter(subscription)
            except BrokerError as exc:
                problems.append(exc)

        waiting = (
            subscription
            for session in list(self._node.registry.sessions.values())
            for subscription in list(session.subscriptions.values())
            if subscription.present and subscription.settled and not subscription.ended
        )
        while batch := list(islice(waiting, BATCH)):
            async with asyncio.TaskGroup() as tasks:
                for subscription in batch:
                    tasks.create_task(prolong(subscription))
            if problems:
                self._node.logger.warning("presence was not prolonged: %s", problems[0])
                return False
        return True

    async def _enter(self, subscription: Subscription) -> None:
        channel, session, broker = subscription.channel, subscription.session, self._node.broker
        if subscription.ended:
            return
        await broker.add_presence(channel, session.id, subscription.info, self._node.presence_ttl)
        current = session.subscriptions.get(channel)
        if subscription.ended and (current is None or not current.present):
            # It left meanwhile; its removal may have come before.
            await broker.remove_presence(channel, session.id)
