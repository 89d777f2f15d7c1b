"""One server: two connections to it, proven alive, and made anew when they are not.

    down ──connected, scripts loaded, all channels subscribed, canary back──▶ up
     ▲                                                                        │
     └── an answer or the canary late, an error, the end of a connection ─────┘

The canary is a message that the node publishes to a channel of its own. It comes back only if the
server takes writes, and delivers what is published to this very connection: a link that is up is
not deaf.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from itertools import islice
from random import Random
from typing import Any, NamedTuple, Protocol, TypeVar

from hubbub.brokers.redis.address import Address, join_host
from hubbub.brokers.redis.dialing import Host, connection
from hubbub.brokers.redis.names import Names, slot_of
from hubbub.brokers.redis.scripts import CANARY, SCRIPTS, Script
from hubbub.brokers.redis.wire import (
    NAME,
    Argument,
    LinkLost,
    Refused,
    Subscriptions,
    Wire,
    first_problem,
)
from hubbub.errors import BrokerError

__all__ = ["Call", "Link", "Owner"]

T = TypeVar("T")

FIRST_DELAY = 0.05
LAST_DELAY = 2.0

# Channels that are subscribed again at a time: their confirmations come within the timeout.
BATCH = 5_000

FULL = frozenset({"MISCONF", "NOREPLICAS", "OOM"})
"""Errors of a server that takes no writes for want of memory, disk or replicas.

It delivers and can be read, so the link stays. After any other, such as `READONLY`, the node looks
for another server, or for the same one again.
"""

logger = logging.getLogger("hubbub.brokers")


class Call(NamedTuple):
    """What a server is to do.

    Attributes:
        name: Key or channel that decides which server of a cluster.
        script: What to run. `None`: `args` are a command.
    """

    name: bytes
    script: Script | None
    args: tuple[Argument, ...]


class Owner(Protocol):
    """Whom a link tells what happens; from its tasks, and never within another call."""

    def take(self, name: bytes, message: bytes) -> None:
        """Take what was published in a channel that is wanted."""

    def dropped(self, link: Link) -> None:
        """Learn that the server does not have a channel any more."""

    def repaired(self, link: Link) -> None:
        """Learn that the link is up again; what was published meanwhile was missed."""

    def lost(self, link: Link) -> None:
        """Learn that the link is down, at every attempt to get it up."""


class Link:
    """A supervised link to one server.

    Args:
        locate: Says where the server is, before each attempt to connect.
        sharded: Whether channels are those of sharded pub/sub.
        canary: Returns the tag of a channel of this node that the server has.
        random: For the pauses between attempts.

    Attributes:
        wanted: Names of channels that are to be subscribed.
        confirmed: Those that are, on the present connection.
    """

    def __init__(
        self,
        address: Address,
        locate: Callable[[], Awaitable[Host]],
        owner: Owner,
        names: Names,
        *,
        sharded: bool,
        canary: Callable[[], str],
        random: Random,
    ) -> None:
        self._address = address
        self._locate = locate
        self._owner = owner
        self._names = names
        self._sharded = sharded
        self._canary = canary
        self._random = random
        self._publish = b"SPUBLISH" if sharded else b"PUBLISH"
        self._ended = False
        self._where = str(address)
        self._problem: str | None = "not connected"
        self.wanted = set[bytes]()
        self.confirmed = set[bytes]()
        self._wire: Wire | None = None
        self._subscriptions: Subscriptions | None = None
        # What scripts of streams are told of the server.
        self._identity: tuple[bytes, bytes, bytes] = (b"", b"", b"0")
        self._topic = b""
        self._sent = 0
        self._token = b""
        self._back: asyncio.Future[None] | None = None

    @property
    def outage(self) -> str | None:
        """Why the link is of no use; `None`: it is up."""
        wire, subscriptions = self._wire, self._subscriptions
        if wire is None or wire.lost or subscriptions is None or subscriptions.lost:
            return self._problem or f"the link to {self._where} has just broken"
        return self._problem

    # What brokers ask of it.

    async def execute(self, call: Call, *, asking: bool = False) -> Any:
        """Have the server do something, once; what it answers.

        Args:
            asking: Send `ASKING` first: a slot is on its way to this server.

        Raises:
            Refused: The server's error; nothing was done.
            BrokerError: The link is down, or broke before the answer.
        """
        wire = self._wire
        if wire is None or wire.lost:
            raise self._down()
        if asking:
            wire.call(b"ASKING")
        script = call.script
        if script is None:
            return await wire.call(*call.args)
        args = call.args
        if script.of_stream:
            args = (*args[: script.keys], *self._identity, *args[script.keys :])
        try:
            return await wire.call(b"EVALSHA", script.sha, script.keys, *args)
        except Refused as exc:
            if exc.code != "NOSCRIPT":
                raise
        # Somebody has flushed the scripts. Loaded again, they stay; `EVAL` would not do that.
        wire.call(b"SCRIPT", b"LOAD", script.source)
        if asking:
            wire.call(b"ASKING")
        return await wire.call(b"EVALSHA", script.sha, script.keys, *args)

    async def subscribe(self, names: Iterable[bytes]) -> None:
        """Subscribe channels, now and whenever the link is made anew.

        Raises:
            Refused: The server's error.
            BrokerError: The link is down, or broke. They are not wanted then, if they were not.
        """
        subscriptions = self._subscriptions
        if subscriptions is None or subscriptions.lost:
            raise self._down()
        new = [name for name in names if name not in self.confirmed]
        added = [name for name in new if name not in self.wanted]
        self.wanted.update(added)
        try:
            for confirmed in subscriptions.subscribe(self._groups(new)):
                await confirmed
        except BrokerError:
            self.unsubscribe(added)
            raise
        if subscriptions is self._subscriptions:
            self.confirmed.update(self.wanted.intersection(new))

    def _down(self) -> BrokerError:
        return BrokerError(NAME, f"the link to the server is down: {self.outage}")

    def unsubscribe(self, names: Iterable[bytes]) -> None:
        """Have channels delivered no more; nothing is waited for."""
        chosen = list(names)
        self.wanted.difference_update(chosen)
        subscriptions = self._subscriptions
        if subscriptions is not None and not subscriptions.lost:
            subscriptions.unsubscribe(self._groups(chosen))
        self.confirmed.difference_update(chosen)

    def end(self) -> None:
        """Make no more attempts: to be called before `run` is cancelled.

        Before Python 3.13 a group whose tasks fail while it is cancelled raises what they raised,
        and forgets the cancellation.
        """
        self._ended = True

    async def run(self, entered: asyncio.Future[None] | None = None) -> None:
        """Keep the link up until cancelled.

        Args:
            entered: Done when it is up for the first time; if that fails, it gets the
                `BrokerError`, and there is no second attempt.
        """
        attempt = 0
        first = True

        def up() -> None:
            nonlocal attempt, first
            attempt = 0
            if first and entered is not None and not entered.done():
                entered.set_result(None)
            if not first or entered is None:
                logger.warning("redis: the link to %s is up", self._where)
                self._owner.repaired(self)
            first = False

        while not self._ended:
            try:
                await self._live(up)
            except LinkLost as exc:
                problem = str(exc)
            if self._ended or (first and entered is not None):
                if entered is not None and not entered.done():
                    entered.set_exception(BrokerError(NAME, problem))
                return
            if attempt == 0:
                logger.warning("redis: the link to %s is down: %s", self._where, problem)
            self._problem = problem
            self._owner.lost(self)
            longest = min(LAST_DELAY, FIRST_DELAY * 2**attempt)
            attempt += 1
            await asyncio.sleep(self._random.uniform(0, longest))

    # Its life.

    async def _live(self, up: Callable[[], None]) -> None:
        """Connect and serve.

        Raises:
            LinkLost: Always, in the end.
        """
        host = await self._locate()
        name = self._where = self._address.path if host is None else join_host(host)
        problem = ""
        async with (
            connection(self._address, host) as commands,
            connection(self._address, host) as events,
        ):
            wire = Wire(commands, self._address.pending)
            subscriptions = Subscriptions(
                events, sharded=self._sharded, take=self._take, dropped=self._dropped
            )
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(wire.run())
                    group.create_task(subscriptions.run())
                    group.create_task(self._serve(wire, subscriptions, up))
            except* LinkLost as exc:
                problem = first_problem(exc)
            finally:
                self._wire = self._subscriptions = None
                self.confirmed.clear()
        raise LinkLost(f"{name}: {problem}")

    async def _serve(
        self, wire: Wire, subscriptions: Subscriptions, up: Callable[[], None]
    ) -> None:
        try:
            self._identity = await self._in_time(self._identify(wire))
            await self._in_time(self._load(wire))
            tag = self._canary()
            self._topic = self._names.topic(tag)
            key = self._names.key(tag, b"canary")
            await self._in_time(_all(subscriptions.subscribe([[self._topic]])))
            await self._resubscribe(subscriptions)
            self._wire, self._subscriptions = wire, subscriptions
            stale = self.confirmed - self.wanted
            if stale:  # unsubscribed while they were subscribed again
                self.unsubscribe(stale)
            self._problem = await self._prove(wire, key)
            up()
            interval = self._address.timeout / 4
            while not self._ended:
                await asyncio.sleep(interval)
                self._problem = await self._prove(wire, key)
            raise LinkLost("the broker has ended")
        except BrokerError as exc:
            raise LinkLost(exc.problem) from None

    async def _identify(self, wire: Wire) -> tuple[bytes, bytes, bytes]:
        """Find out which process the server is, and whether streams survive its end.

        Raises:
            LinkLost: It is a replica, or does not say which process it is.
        """
        epochs = self._address.epochs
        if epochs == "keep":
            return b"", b"", b"1"
        try:
            server = _facts(await wire.call(b"INFO", b"server"))
            replication = _facts(await wire.call(b"INFO", b"replication"))
        except Refused as exc:
            # Without, offsets could be given out again after a failover, and nobody would know.
            problem = f"{exc.problem}: allow INFO, or say epochs=keep"
            raise LinkLost(problem) from None
        if replication.get("role", "master") != "master":
            raise LinkLost("the server is a replica, which takes no writes")
        lossless = False
        if epochs == "auto":
            try:
                answer = await wire.call(b"CONFIG", b"GET", b"append*")
            except Refused:
                pass  # not allowed to know: it may lose something
            else:
                values = dict(zip(answer[::2], answer[1::2], strict=True))
                lossless = (
                    values.get(b"appendonly") == b"yes" and values.get(b"appendfsync") == b"always"
                )
        # Of a server that was promoted, what it was a replica of.
        place = replication.get("master_replid2", "")
        return server.get("run_id", "").encode(), place.encode(), b"1" if lossless else b"0"

    @staticmethod
    async def _load(wire: Wire) -> None:
        await _all([wire.call(b"SCRIPT", b"LOAD", script.source) for script in SCRIPTS])

    async def _resubscribe(self, subscriptions: Subscriptions) -> None:
        """Subscribe all channels that are wanted, and those that come to be wanted meanwhile."""
        refused = set[bytes]()
        while missing := self.wanted - self.confirmed - refused:
            for group in self._groups(list(islice(missing, BATCH))):
                try:
                    await self._in_time(_all(subscriptions.subscribe([group])))
                except Refused as exc:
                    if exc.code != "MOVED":
                        raise
                    refused.update(group)  # it is another server's now
                    self._owner.dropped(self)
                else:
                    self.confirmed.update(group)

    async def _prove(self, wire: Wire, key: bytes) -> str | None:
        """Send the canary and wait for it.

        Returns:
            Why the server takes no writes for the moment; `None`: all is well.

        Raises:
            LinkLost: The canary or the answer did not come, or the server is none to write to.
        """
        self._sent += 1
        token = self._token = b"%d" % self._sent
        back = self._back = asyncio.get_running_loop().create_future()
        lifetime = int(self._address.timeout * 1000)
        command = (b"EVALSHA", CANARY.sha, CANARY.keys, key)
        args = (self._topic, self._publish, token, lifetime)
        problem = None
        try:
            await self._patiently(wire.call(*command, *args), "an answer")
        except Refused as exc:
            if exc.code == "NOSCRIPT":
                await self._in_time(self._load(wire))
                return await self._prove(wire, key)
            if exc.code not in FULL:
                raise
            problem = exc.problem
            await self._patiently(wire.call(self._publish, self._topic, token), "an answer")
        await self._patiently(back, "what the node sent itself")
        return problem

    async def _in_time(self, awaitable: Awaitable[T]) -> T:
        """Wait for the server.

        Raises:
            LinkLost: It took too long.
        """
        timeout = self._address.timeout
        try:
            async with asyncio.timeout(timeout):
                return await awaitable
        except TimeoutError:
            raise LinkLost(f"no answer within timeout={timeout:g} s") from None

    async def _patiently(self, future: asyncio.Future[T], what: str) -> T:
        """Wait for the server, or for this process, if that is what stood still.

        Raises:
            LinkLost: It took too long.
        """
        timeout = self._address.timeout
        try:
            async with asyncio.timeout(timeout * 0.75):
                return await asyncio.shield(future)
        except TimeoutError:
            pass  # if the loop was held up, what it waits for is there to be read
        try:
            async with asyncio.timeout(timeout * 0.25):
                return await future
        except TimeoutError:
            raise LinkLost(f"{what} did not come within timeout={timeout:g} s") from None

    def _take(self, name: bytes, message: bytes) -> None:
        if name == self._topic:
            back = self._back
            if message == self._token and back is not None and not back.done():
                back.set_result(None)
        elif name in self.wanted:
            self._owner.take(name, message)

    def _dropped(self, name: bytes) -> None:
        if name == self._topic:
            raise LinkLost("the server has given away the slot of the canary")
        if name in self.confirmed:
            self.confirmed.discard(name)
            self._owner.dropped(self)

    def _groups(self, names: Sequence[bytes]) -> list[list[bytes]]:
        """Divide names into those that one command may have: sharded ones by their slots."""
        if not names:
            return []
        if not self._sharded:
            return [list(names)]
        groups: dict[int, list[bytes]] = {}
        for name in names:
            groups.setdefault(slot_of(name), []).append(name)
        return list(groups.values())


def _facts(answer: bytes) -> dict[str, str]:
    """Return what `INFO` says."""
    lines = answer.decode(errors="replace").splitlines()
    return {name: value for name, _, value in (line.partition(":") for line in lines)}


async def _all(answers: Collection[Awaitable[Any]]) -> None:
    for answer in answers:
        await answer
