"""The broker of many nodes, over Valkey or Redis (ADR 0016)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager
from random import Random, SystemRandom
from typing import Any

from hubbub.brokers.base import Event, Receiver
from hubbub.brokers.redis import codec
from hubbub.brokers.redis.address import Address, parse_address
from hubbub.brokers.redis.cluster import Cluster
from hubbub.brokers.redis.control import Control
from hubbub.brokers.redis.link import Call
from hubbub.brokers.redis.names import CONTROL, Names
from hubbub.brokers.redis.scripts import (
    ADD_PRESENCE,
    COUNT_PRESENCE,
    HISTORY,
    PRESENCE,
    PUBLISH,
    REMOVE_PRESENCE,
    Script,
)
from hubbub.brokers.redis.single import Servers, Single
from hubbub.brokers.redis.wire import NAME
from hubbub.brokers.stream import IDEMPOTENCY_TTL, UNUSED_TTL, make_epoch
from hubbub.errors import BrokerError
from hubbub.model import (
    ClientInfo,
    History,
    Join,
    Leave,
    Position,
    PresenceStats,
    Publication,
)

__all__ = ["RedisBroker"]

LONGEST_TTL = 10 * 365 * 86_400.0

LAST_OFFSET = 2**63

logger = logging.getLogger("hubbub.brokers")


class RedisBroker:
    """Carries publications between nodes by Valkey 7.2+ or Redis 6.2+, and keeps streams there.

    Needs the extra `redis`.

    Args:
        url: See `parse_address`.
        random: Where names of epochs and pauses between attempts come from.

    Raises:
        ConfigError: The URL is not understood.
    """

    local = False
    alone = False

    def __init__(self, url: str, *, random: Random | None = None) -> None:
        self._address = parse_address(url)
        self._random = random or SystemRandom()
        self._names = Names(self._address.prefix, self._address.db)
        self._receiver: Receiver | None = None
        self._servers: Servers | None = None
        self._channels: dict[bytes, str] = {}
        self._control = Control(self)
        self._control_topic = self._names.topic(CONTROL)
        self._failure: str | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._address}>"

    @property
    def outage(self) -> str | None:
        """Why nothing can be published or read at the moment; `None`: the broker works."""
        if self._failure is not None:
            return self._failure
        return "not running" if self._servers is None else self._servers.outage

    @property
    def address(self) -> Address:
        """Where the servers are."""
        return self._address

    @asynccontextmanager
    async def running(self, receiver: Receiver) -> AsyncGenerator[None]:
        """Connect on entering, disconnect on leaving.

        Raises:
            BrokerError: On entering: the server cannot be used, or the broker is running already.
        """
        if self._receiver is not None:
            raise BrokerError(NAME, "it is running already")
        self._receiver = receiver
        self._failure = None
        kind = Cluster if self._address.kind == "cluster" else Single
        servers = self._servers = kind(self._address, self, self._names, self._random)
        loop = asyncio.get_running_loop()
        entered: asyncio.Future[None] = loop.create_future()
        root = loop.create_task(self._live(servers, entered), name="hubbub redis broker")
        try:
            await entered
            yield
        finally:
            self._receiver = self._servers = None
            self._channels.clear()
            servers.end()
            root.cancel()
            await asyncio.wait([root])
        if not root.cancelled():
            root.result()

    async def _live(self, servers: Servers, entered: asyncio.Future[None]) -> None:
        """Own what runs in the background; whatever fails there is an error of this program."""
        connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(servers.run(connected))
                await connected
                await self._control.begin()
                group.create_task(self._control.run())
                entered.set_result(None)
                try:
                    await asyncio.get_running_loop().create_future()  # until cancelled
                finally:
                    servers.end()
        except Exception as exc:
            problem: Exception = exc
            while isinstance(problem, ExceptionGroup):
                problem = problem.exceptions[0]
            if not entered.done():
                entered.set_exception(problem)
                return
            self._failure = f"it has ended by a failure: {problem!r}"
            logger.critical("the redis broker has ended by a failure", exc_info=exc)
            raise

    async def subscribe(self, channels: Collection[str]) -> None:
        """Have what happens in the channels delivered; nothing after the return is missed.

        Raises:
            BrokerError: The link is down, or broke.
        """
        names = {self._topic(channel): channel for channel in channels}
        self._channels.update(names)
        await self._running().subscribe(names)

    async def unsubscribe(self, channels: Collection[str]) -> None:
        """Have no more delivered."""
        names = [self._topic(channel) for channel in channels]
        for name in names:
            self._channels.pop(name, None)
        await self._running().unsubscribe(names)

    async def publish(
        self,
        channel: str,
        publication: Publication,
        *,
        history_size: int = 0,
        history_ttl: float = 0.0,
        meta_ttl: float = 2_592_000.0,
        idempotency_key: str = "",
        version: int = 0,
        version_epoch: str = "",
    ) -> Position:
        """Append a publication to the channel's stream and deliver it, as one step.

        Raises:
            Refused: The server's error; nothing was published.
            BrokerError: The link is down, and nothing was published; or it broke, and the problem
                says that it may have been.
        """
        return await self.append(
            self._names.tag(channel),
            codec.encode_publication(publication),
            size=history_size if history_ttl > 0 else 0,
            ttl=history_ttl,
            meta_ttl=meta_ttl,
            idempotency_key=idempotency_key,
            version=version,
            version_epoch=version_epoch,
        )

    async def append(
        self,
        tag: str,
        body: bytes,
        *,
        size: int,
        ttl: float,
        meta_ttl: float,
        idempotency_key: str = "",
        version: int = 0,
        version_epoch: str = "",
    ) -> Position:
        """Publish in the stream of a tag; otherwise like `publish`."""
        servers = self._running()
        meta = self._names.key(tag, b"meta")
        once = b"once:" + idempotency_key.encode() if idempotency_key else b"meta"
        epoch, offset = await servers.execute(
            Call(
                meta,
                PUBLISH,
                (
                    meta,
                    self._names.key(tag, b"log"),
                    self._names.key(tag, once),
                    body,
                    self._names.topic(tag),
                    servers.publish,
                    make_epoch(self._random),
                    max(0, size),
                    _milliseconds(ttl),
                    _milliseconds(meta_ttl),
                    _milliseconds(IDEMPOTENCY_TTL) if idempotency_key else b"",
                    b"%020d" % version if version else b"",
                    version_epoch,
                ),
            )
        )
        return Position(epoch.decode(), int(offset))

    async def announce(self, channel: str, event: Join | Leave) -> None:
        """Deliver a join or leave."""
        servers = self._running()
        topic = self._topic(channel)
        message = codec.encode_announcement(event)
        await servers.execute(Call(topic, None, (servers.publish, topic, message)))

    async def history(
        self,
        channel: str,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
        meta_ttl: float = 2_592_000.0,
    ) -> History:
        """Read a channel's stream; the first use of a channel makes one."""
        return await self.read(
            self._names.tag(channel), since=since, limit=limit, reverse=reverse, meta_ttl=meta_ttl
        )

    async def read(
        self,
        tag: str,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
        meta_ttl: float,
    ) -> History:
        """Read the stream of a tag; otherwise like `history`."""
        meta = self._names.key(tag, b"meta")
        command, start, end = b"XRANGE", b"-", b"+"
        if reverse:
            command, start, end = b"XREVRANGE", b"+", b"-"
        if since is not None:
            # Exclusive; offsets come from clients, and a stream's ids have 64 bits.
            first = min(since.offset, LAST_OFFSET) + (-1 if reverse else 1)
            if first < 0:
                limit = 0
            else:
                start = b"%d-0" % first
        epoch, top, entries = await self._running().execute(
            Call(
                meta,
                HISTORY,
                (
                    meta,
                    self._names.key(tag, b"log"),
                    make_epoch(self._random),
                    _milliseconds(meta_ttl),
                    _milliseconds(min(meta_ttl, UNUSED_TTL)),
                    "" if since is None else since.epoch,
                    command,
                    start,
                    end,
                    "" if limit is None else max(0, limit),
                ),
            )
        )
        name = epoch.decode()
        publications = []
        for key, (_, body) in entries:
            offset = int(key.partition(b"-")[0])
            try:
                publications.append(codec.decode_publication(body, name, offset))
            except ValueError as exc:
                problem = f"offset {offset} of the stream {tag!r} cannot be read: {exc}"
                raise BrokerError(NAME, problem) from exc
        return History(tuple(publications), Position(name, int(top)))

    async def remove_history(self, channel: str) -> None:
        """Drop the publications of a stream; epoch and offset stay."""
        log = self._names.key(self._names.tag(channel), b"log")
        await self._running().execute(Call(log, None, (b"DEL", log)))

    async def add_presence(
        self, channel: str, client: str, info: ClientInfo, ttl: float | None
    ) -> None:
        """Enter a client, or prolong its entry."""
        lifetime = b"" if ttl is None else _milliseconds(ttl)
        await self._present(ADD_PRESENCE, channel, client, codec.encode_presence(info), lifetime)

    async def remove_presence(self, channel: str, client: str) -> None:
        """Remove a client's entry."""
        await self._present(REMOVE_PRESENCE, channel, client)

    async def presence(self, channel: str) -> Mapping[str, ClientInfo]:
        """Return who is in a channel, by client id: a snapshot."""
        found = await self._present(PRESENCE, channel)
        return {
            client.decode(): codec.decode_presence(info)
            for client, info in zip(found[::2], found[1::2], strict=True)
        }

    async def presence_stats(self, channel: str) -> PresenceStats:
        """Count who is in a channel."""
        clients, users = await self._present(COUNT_PRESENCE, channel)
        return PresenceStats(clients, users)

    async def _present(self, script: Script, channel: str, *args: bytes | str | int) -> Any:
        tag = self._names.tag(channel)
        keys = [self._names.key(tag, what) for what in (b"who", b"ends", b"users")]
        return await self._running().execute(Call(keys[0], script, (*keys, *args)))

    async def send_control(self, message: bytes) -> None:
        """Have a message given to every node, this one included.

        A node whose link is down gets it afterwards, if that is within 5 minutes.
        """
        await self._control.send(message)

    async def link_control(self) -> None:
        """Have control messages delivered."""
        await self._running().subscribe([self._control_topic])

    def give(self, message: bytes) -> None:
        """Give a control message to the receiver."""
        receiver = self._receiver
        if receiver is not None:
            try:
                receiver.control(message)
            except Exception:
                logger.exception("a control message was not dealt with")

    # From the servers.

    def take(self, name: bytes, message: bytes) -> None:
        """Deliver what was published."""
        receiver = self._receiver
        if receiver is None:
            return
        if name == self._control_topic:
            self._control.take(message)
            return
        channel = self._channels.get(name)
        if channel is None:
            return
        try:
            event = codec.decode_event(message)
        except ValueError as exc:
            logger.error("a message in %r cannot be read: %s", channel, exc)
            receiver.suspect([channel])
            return
        self._deliver(channel, event)

    def suspect(self, names: Collection[bytes] | None) -> None:
        """Have positions compared, and control messages read that were missed."""
        receiver = self._receiver
        if receiver is None:
            return
        if names is None:
            self._control.suspect()
            receiver.suspect(None)
            return
        if self._control_topic in names:
            self._control.suspect()
        channels = [self._channels[name] for name in names if name in self._channels]
        if channels:
            receiver.suspect(channels)

    def _deliver(self, channel: str, event: Event) -> None:
        receiver = self._receiver
        assert receiver is not None, "asked before"
        try:
            receiver.deliver(channel, event)
        except Exception:
            # The link is not to blame, and others wait for what comes next.
            logger.exception("an event in %r was not dealt with", channel)

    def _running(self) -> Servers:
        if self._failure is not None or self._servers is None:
            raise BrokerError(NAME, self.outage or "not running")
        return self._servers

    def _topic(self, channel: str) -> bytes:
        return self._names.topic(self._names.tag(channel))


def _milliseconds(seconds: float) -> int:
    """Return a lifetime as servers take it: at least a millisecond, at most ten years."""
    return max(1, int(min(seconds, LONGEST_TTL) * 1000))
