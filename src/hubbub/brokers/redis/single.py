"""One server that has everything, by its address or as Sentinels know it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection
from random import Random
from typing import Any, Protocol

from hubbub.brokers.redis.address import Address
from hubbub.brokers.redis.dialing import Host, find_master
from hubbub.brokers.redis.link import Call, Link
from hubbub.brokers.redis.names import Names

__all__ = ["Events", "Servers", "Single"]


class Events(Protocol):
    """What happens at servers; never within another call."""

    def take(self, name: bytes, message: bytes) -> None:
        """Take what was published in a channel that is subscribed."""

    def suspect(self, names: Collection[bytes] | None) -> None:
        """Learn that something may have been missed in channels; `None`: in all."""


class Servers(Protocol):
    """Servers, however many, as a broker sees them.

    Attributes:
        publish: The command that publishes a message.
        outage: Why they are of no use, or a part of them; `None`: all is well.
    """

    publish: bytes

    @property
    def outage(self) -> str | None: ...  # noqa: D102 - above

    async def run(self, entered: asyncio.Future[None]) -> None:
        """Connect, and stay so until cancelled; see `Link.run`."""

    def end(self) -> None:
        """Make no more attempts to connect; see `Link.end`."""

    async def execute(self, call: Call) -> Any:
        """Have something done, once; see `Link.execute`."""

    async def subscribe(self, names: Collection[bytes]) -> None:
        """Subscribe channels; see `Link.subscribe`."""

    async def unsubscribe(self, names: Collection[bytes]) -> None:
        """Unsubscribe channels."""


class Single:
    """One link (`Servers`)."""

    publish = b"PUBLISH"

    def __init__(self, address: Address, events: Events, names: Names, random: Random) -> None:
        self._address = address
        self._events = events
        self._link = Link(
            address,
            self._locate,
            self,
            names,
            sharded=False,
            canary=canary_tags(),
            random=random,
        )

    @property
    def outage(self) -> str | None:
        """Why the server is of no use."""
        return self._link.outage

    async def run(self, entered: asyncio.Future[None]) -> None:
        """Connect, and stay so until cancelled."""
        await self._link.run(entered)

    def end(self) -> None:
        """Make no more attempts to connect."""
        self._link.end()

    async def execute(self, call: Call) -> Any:
        """Have something done, once."""
        return await self._link.execute(call)

    async def subscribe(self, names: Collection[bytes]) -> None:
        """Subscribe channels."""
        await self._link.subscribe(names)

    async def unsubscribe(self, names: Collection[bytes]) -> None:
        """Unsubscribe channels."""
        self._link.unsubscribe(names)

    # From the link.

    def take(self, name: bytes, message: bytes) -> None:
        """Pass on what was published."""
        self._events.take(name, message)

    def dropped(self, link: Link) -> None:
        """Do nothing: a single server has no slots to give away."""

    def repaired(self, link: Link) -> None:
        """Suspect everything."""
        self._events.suspect(None)

    def lost(self, link: Link) -> None:
        """Do nothing: the link helps itself."""

    async def _locate(self) -> Host:
        if self._address.kind == "sentinel":
            return await find_master(self._address)
        return self._address.hosts[0] if self._address.hosts else None


def canary_tags() -> Callable[[], str]:
    """Return a function that returns the tag of a channel that nobody else has."""
    node = secrets.token_hex(8)
    return lambda: f"%canary-{node}"
