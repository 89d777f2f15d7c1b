"""A cluster: a link to each master, and which of them has which slot."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Collection, Iterable
from itertools import count
from random import Random
from typing import Any

from redis.exceptions import RedisError

from hubbub.brokers.redis.address import Address, join_host
from hubbub.brokers.redis.dialing import connection
from hubbub.brokers.redis.link import Call, Link
from hubbub.brokers.redis.names import SLOTS, Names, slot_of
from hubbub.brokers.redis.single import Events
from hubbub.brokers.redis.wire import NAME, LinkLost, Refused
from hubbub.errors import BrokerError

__all__ = ["Cluster"]

Node = tuple[str, int]

REFRESH_INTERVAL = 30.0
"""Seconds after which the slots are looked up for no reason."""

REFRESH_PAUSE = 0.25
"""Seconds between two looks, however many reasons there are."""

MAX_REDIRECTS = 6

# Of errors after which the same is tried again: a slot is on its way.
RETRY_DELAY = 0.05

logger = logging.getLogger("hubbub.brokers")


class Cluster:
    """Links to the masters of a cluster (`Servers`).

    Channels are subscribed where their slot is: with sharded pub/sub they are published there
    alone. Without, any server has all messages, and this one as well.
    """

    def __init__(self, address: Address, events: Events, names: Names, random: Random) -> None:
        self._address = address
        self._events = events
        self._names = names
        self._random = random
        self._links: dict[Node, Link] = {}
        self._tasks: dict[Node, asyncio.Task[None]] = {}
        self._owners: list[Node | None] = [None] * SLOTS
        self._wanted = set[bytes]()
        self._stale = asyncio.Event()
        self._refreshed: asyncio.Future[None] | None = None
        self._id = secrets.token_hex(8)
        self._sharded = bool(address.sharded)
        self.publish = b"PUBLISH"

    @property
    def outage(self) -> str | None:
        """Why the cluster is of no use, or a part of it."""
        for link in self._links.values():
            if link.outage is not None:
                return link.outage
        missing = self._owners.count(None)
        return f"{missing} of {SLOTS} slots are served by nobody" if missing else None

    async def run(self, entered: asyncio.Future[None]) -> None:
        """Connect to all masters, and follow the cluster as it changes."""
        try:
            owners = await self._ask()
        except LinkLost as exc:
            entered.set_exception(BrokerError(NAME, str(exc)))
            return
        self._owners = owners
        async with asyncio.TaskGroup() as group:
            started = self._connect(group, wait=True)
            try:
                for up in started:
                    await up
                if None in owners:
                    raise BrokerError(NAME, self.outage or "slots are missing")
            except BrokerError as exc:
                entered.set_exception(exc)
                self.end()
                for task in self._tasks.values():
                    task.cancel()
                return
            entered.set_result(None)
            while True:
                await self._wait_for_reason()
                await self._refresh(group)
                await asyncio.sleep(REFRESH_PAUSE)

    def end(self) -> None:
        """Make no more attempts to connect."""
        for link in self._links.values():
            link.end()

    async def execute(self, call: Call) -> Any:
        """Have something done by whoever has the slot."""
        slot = slot_of(call.name)
        node = self._owners[slot]
        asking = False
        for attempt in count(1):
            link = None if node is None else self._links.get(node)
            if link is None:
                raise BrokerError(NAME, f"slot {slot} is served by nobody that is known")
            try:
                return await link.execute(call, asking=asking)
            except Refused as exc:
                if attempt >= MAX_REDIRECTS:
                    raise
                if exc.code in ("MOVED", "ASK"):
                    asking = exc.code == "ASK"
                    target = _target(exc.detail, node)
                    if not asking:
                        self._owners[slot] = target
                        self._stale.set()
                    if target not in self._links:
                        await self._next_refresh()
                    node = target
                elif exc.code == "TRYAGAIN":
                    await asyncio.sleep(RETRY_DELAY * attempt)
                else:
                    raise
        raise AssertionError  # unreachable: the loop returns or raises

    async def subscribe(self, names: Collection[bytes]) -> None:
        """Subscribe channels, each at the server that has its slot."""
        added = [name for name in names if name not in self._wanted]
        self._wanted.update(added)
        try:
            await self._subscribe(names)
        except BrokerError:
            await self.unsubscribe(added)
            raise

    async def _subscribe(self, names: Collection[bytes]) -> None:
        for attempt in count(1):
            try:
                for node, chosen in self._by_owner(names).items():
                    link = None if node is None else self._links.get(node)
                    if link is None:
                        raise BrokerError(NAME, "a slot is served by nobody that is known")
                    await link.subscribe(chosen)
                return
            except Refused as exc:
                if exc.code not in ("MOVED", "TRYAGAIN") or attempt >= MAX_REDIRECTS:
                    raise
            await self._next_refresh()

    async def unsubscribe(self, names: Collection[bytes]) -> None:
        """Unsubscribe channels."""
        self._wanted.difference_update(names)
        for link in self._links.values():
            chosen = link.wanted.intersection(names)
            if chosen:
                link.unsubscribe(chosen)

    # From the links.

    def take(self, name: bytes, message: bytes) -> None:
        """Pass on what was published."""
        self._events.take(name, message)

    def dropped(self, link: Link) -> None:
        """Look where the slots are: one has gone elsewhere."""
        self._stale.set()

    def repaired(self, link: Link) -> None:
        """Suspect what the server has."""
        self._events.suspect(frozenset(link.wanted))

    def lost(self, link: Link) -> None:
        """Look where the slots are: a replica may have been promoted."""
        self._stale.set()

    # The map of slots.

    async def _wait_for_reason(self) -> None:
        try:
            async with asyncio.timeout(REFRESH_INTERVAL):
                await self._stale.wait()
        except TimeoutError:
            pass  # as good a reason as any

    async def _next_refresh(self) -> None:
        """Wait until the slots have been looked up again; not for ever."""
        if self._refreshed is None:
            self._refreshed = asyncio.get_running_loop().create_future()
        self._stale.set()
        try:
            async with asyncio.timeout(self._address.timeout):
                await asyncio.shield(self._refreshed)
        except TimeoutError:
            raise BrokerError(NAME, "the cluster's slots could not be looked up") from None

    async def _refresh(self, group: asyncio.TaskGroup) -> None:
        self._stale.clear()
        try:
            self._owners = await self._ask()
        except LinkLost as exc:
            logger.warning("redis: the cluster's slots are not known: %s", exc)
            return
        self._connect(group, wait=False)
        try:
            await self._place()
        except BrokerError as exc:
            logger.warning("redis: channels could not be moved yet: %s", exc)
            self._stale.set()
        for node in set(self._links) - set(self._owners):
            logger.warning("redis: %s has no slots any more", join_host(node))
            self._links.pop(node).end()
            self._tasks.pop(node).cancel()
        refreshed, self._refreshed = self._refreshed, None
        if refreshed is not None:
            refreshed.set_result(None)

    def _connect(self, group: asyncio.TaskGroup, *, wait: bool) -> list[asyncio.Future[None]]:
        """Begin links to servers that have none; return when each is up, if somebody waits."""
        started: list[asyncio.Future[None]] = []
        for node in dict.fromkeys(self._owners):
            if node is None or node in self._links:
                continue
            link = self._links[node] = self._link(node)
            up = asyncio.get_running_loop().create_future() if wait else None
            if up is not None:
                started.append(up)
            self._tasks[node] = group.create_task(link.run(up))
        return started

    def _link(self, node: Node) -> Link:
        async def locate() -> Node:
            return node

        return Link(
            self._address,
            locate,
            self,
            self._names,
            sharded=self._sharded,
            canary=lambda: self._canary(node),
            random=self._random,
        )

    def _canary(self, node: Node) -> str:
        """Return the tag of a channel of this node in one of a server's slots."""
        if node in self._owners:
            for n in range(100 * SLOTS):
                tag = f"%canary-{self._id}-{n}"
                if self._owners[slot_of(self._names.topic(tag))] == node:
                    return tag
        raise LinkLost("the server has no slots")

    async def _place(self) -> None:
        """Subscribe channels where their slots are now, and suspect those that were elsewhere.

        Raises:
            BrokerError: Not all are subscribed.
        """
        placed = self._by_owner(self._wanted)
        missing: dict[Link, list[bytes]] = {}
        # All of them at once: whatever fails below is subscribed when its link is up.
        for node, link in self._links.items():
            names = placed.get(node, [])
            stale = link.wanted.difference(names)
            if stale:
                link.unsubscribe(stale)
            link.wanted.update(names)
            if link.outage is None:
                missing[link] = [name for name in names if name not in link.confirmed]
        for link, names in missing.items():
            if names:
                await link.subscribe(names)
                self._events.suspect(names)

    def _by_owner(self, names: Iterable[bytes]) -> dict[Node | None, list[bytes]]:
        owned: dict[Node | None, list[bytes]] = {}
        for name in names:
            owned.setdefault(self._owners[slot_of(name)], []).append(name)
        return owned

    async def _ask(self) -> list[Node | None]:
        """Ask the servers one after another who has which slot, those that answer first.

        Raises:
            LinkLost: None of them knows.
        """
        up = [node for node, link in self._links.items() if link.outage is None]
        nodes: dict[Node, None] = dict.fromkeys([*up, *self._links, *self._address.hosts])
        problems = []
        for node in nodes:
            try:
                async with (
                    asyncio.timeout(self._address.connect_timeout),
                    connection(self._address, node) as asked,
                ):
                    await asked.send_command("CLUSTER", "SLOTS")
                    answer = await asked.read_response(disable_decoding=True)
                    if self._address.sharded is None and not self._links:
                        await asked.send_command("COMMAND", "INFO", "SPUBLISH")
                        known = await asked.read_response(disable_decoding=True)
                        self._sharded = bool(known and known[0])
            except (RedisError, OSError, LinkLost, TimeoutError) as exc:
                problems.append(str(exc) or f"{join_host(node)} did not answer")
                continue
            self.publish = b"SPUBLISH" if self._sharded else b"PUBLISH"
            return _owners(answer, node)
        raise LinkLost("; ".join(problems))


def _owners(answer: Any, asked: Node) -> list[Node | None]:
    """Read `CLUSTER SLOTS`: per range the first and last slot, the master, and its replicas."""
    owners: list[Node | None] = [None] * SLOTS
    for first, last, (host, port, *_), *_ in answer:
        # A server that does not know its own address is where it was asked.
        node = (host.decode() if host else asked[0], int(port))
        owners[first : last + 1] = [node] * (last - first + 1)
    return owners


def _target(detail: str, asked: Node | None) -> Node:
    """Read where a slot is: `3999 127.0.0.1:6381`, without a host for that of who was asked."""
    host, _, port = detail.partition(" ")[2].rpartition(":")
    return host or (asked[0] if asked else ""), int(port)
