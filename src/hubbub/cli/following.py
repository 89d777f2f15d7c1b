"""Channels of a hub, followed over one connection after the other (client protocol §17).

A connection that is lost is replaced, after a delay that grows, and what was published meanwhile is
recovered. Reading is all that a follower does: whoever it tells what happened holds it up by not
returning, the connection fills up, and the hub decides what becomes of a slow client.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, NoReturn, Protocol

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from hubbub.cli.address import ServerAddress
from hubbub.cli.backoff import delay, is_final
from hubbub.cli.events import Event, Kind
from hubbub.cli.failure import Failure
from hubbub.cli.traffic import plural
from hubbub.errors import ProtocolViolation
from hubbub.protocol import json as json_codec
from hubbub.protocol.commands import (
    Command,
    ConnectRequest,
    HistoryRequest,
    PresenceStatsRequest,
    Request,
    SubscribeRequest,
)
from hubbub.protocol.replies import Push, Reply
from hubbub.protocol.results import ConnectResult, HistoryResult, SubscribeResult
from hubbub.protocol.values import ClientInfo, Error, Publication, StreamPosition

__all__ = ["Dialer", "Follower", "Interest", "Lost", "Watcher"]

MAX_HELD: Final = 10_000
"""Most publications that are held back while a channel's history is awaited."""

# Of the connections before this one, which the hub may see leave later than we do.
_REMEMBERED: Final = 16

_MEMBERS_INTERVAL: Final = 1.0
_YEAR_10000: Final = 253_402_300_800


class Dialer(Protocol):
    """Opens connections to a hub.

    Attributes:
        address: Where the last one went, or the first one will go.
    """

    address: ServerAddress

    async def dial(self) -> ClientConnection:
        """Open a connection.

        Raises:
            Failure: It cannot be opened.
        """


class Watcher(Protocol):
    """Is told what happens."""

    def happened(self, events: Sequence[Event]) -> None:
        """Take what happened, in order."""

    def notice(self, text: str) -> None:
        """Take what became of the connection and of the channels, for people."""

    def subscribed(self, channel: str, result: SubscribeResult) -> None:
        """Learn that a subscription stands; what was recovered happens next."""

    def refused(self, channel: str, why: str) -> None:
        """Learn that a channel is followed no longer, and not tried again."""


@dataclass(frozen=True, slots=True)
class Interest:
    """What is to be followed.

    Attributes:
        channels: Each once; without any, the follower only keeps a connection to ask over.
        data: Of the connect command; empty: none.
        token: Called for the connection token at each connect; empty: none.
        history: Publications of each channel to begin with.
        join_leave: Whether joins and leaves are asked for.
        members: Whether the members of channels are counted.
        name: What the hub gets to know of the client.
    """

    channels: Sequence[str]
    data: msgspec.Raw
    token: Callable[[], str]
    history: int = 0
    join_leave: bool = True
    members: bool = False
    name: str = "hubbub tap"


class _Question(Enum):
    """What is asked of a channel."""

    SUBSCRIBE = auto()
    HISTORY = auto()
    MEMBERS = auto()


@dataclass(slots=True)
class _Channel:
    """Where one channel stands.

    Attributes:
        recoverable: Whether what comes after the position can be recovered.
        is_fresh: Whether it was never subscribed to.
        by_server: Whether the server subscribed us by itself.
        refusals: How often subscribing failed for a time, in a row.
        held: What has come while the history is awaited; `None`: it is not.
        members: `None`: not known.
        members_at: When they were asked for, by the event loop's time.
    """

    name: str
    epoch: str = ""
    offset: int = 0
    recoverable: bool = False
    is_fresh: bool = True
    by_server: bool = False
    refusals: int = 0
    held: list[Event] | None = None
    members: int | None = None
    members_at: float = 0.0

    def subscription(self, *, join_leave: bool) -> SubscribeRequest:
        """Build the request that subscribes, from the position on if there is one."""
        return SubscribeRequest(
            channel=self.name,
            recover=self.recoverable,
            epoch=self.epoch if self.recoverable else "",
            offset=self.offset if self.recoverable else 0,
            positioned=True,
            recoverable=True,
            join_leave=join_leave,
        )


@dataclass(slots=True)
class _Dialogue:
    """What is under way on one connection.

    Attributes:
        due: When to ask what of which channel, by the event loop's time.
        asked: What was asked and when, less what we were held up till then, by the command's id.
        returning: Channels whose subscription is awaited.
        caught_up: Publications that were recovered.
        silence: Longest time without a message, in seconds; `None`: the hub sends no pings.
        pong: Whether pings are answered.
        held_up: Seconds that the watcher took, which are not the hub's: its answers may have come.
    """

    due: dict[tuple[_Question, str], float] = field(default_factory=dict)
    asked: dict[int, tuple[_Question, str, float]] = field(default_factory=dict)
    returning: set[str] = field(default_factory=set)
    caught_up: int = 0
    silence: float | None = None
    pong: bool = False
    held_up: float = 0.0


class Follower:
    """Follows channels until it is cancelled.

    Args:
        dialer: Opens connections to the hub.
        interest: What to follow.
        watcher: Is told everything.
        answer_timeout: Longest time for the reply to a command, in seconds; then the connection
            counts as lost.
        ping_grace: Seconds beyond its ping interval that a hub may be silent; that of SDKs.
        wait: Says how many seconds to wait after so many attempts in a row.

    Attributes:
        is_following: Whether it has been connected, and every channel was answered once.
        client: Id of the connection that stands; empty: none does.
        connects: How often it has connected.
    """

    def __init__(
        self,
        dialer: Dialer,
        interest: Interest,
        watcher: Watcher,
        *,
        answer_timeout: float = 10.0,
        ping_grace: float = 10.0,
        wait: Callable[[int], float] = delay,
    ) -> None:
        self._dialer = dialer
        self._wait = wait
        self._interest = interest
        self._watcher = watcher
        self._answer_timeout = answer_timeout
        self._ping_grace = ping_grace
        self._channels = {name: _Channel(name) for name in interest.channels}
        self._own: deque[str] = deque(maxlen=_REMEMBERED)
        self._events: list[Event] = []
        self._dialogue = _Dialogue()
        self._last_id = 0
        self._attempts = 0
        self._connection: ClientConnection | None = None
        # `None` is the end of the connection.
        self._replies: dict[int, asyncio.Future[Reply | None]] = {}
        self.is_following = False
        self.client = ""
        self.connects = 0

    @property
    def members(self) -> dict[str, int]:
        """How many connections are in each channel, where that is counted and known."""
        return {
            name: channel.members
            for name, channel in self._channels.items()
            if channel.members is not None
        }

    @property
    def location(self) -> str:
        """Where the last connection went, for people."""
        return self._dialer.address.location

    def is_subscribed(self, channel: str) -> bool:
        """Tell whether a subscription stands now."""
        followed = channel in self._channels and channel not in self._dialogue.returning
        return bool(self.client) and followed

    def abort(self) -> bool:
        """Lose the connection at once, as when a network fails; return whether it stood."""
        if self._connection is None or not self.client:
            return False
        if self._connection.transport.is_closing():
            return False
        self._connection.transport.abort()
        return True

    async def ask(self, name: str, request: Request) -> Reply:
        """Send a command over the connection that stands, and wait for its reply.

        Args:
            name: Of the command's member: `publish`, `presence`, ...

        Raises:
            Lost: There is no connection, and nothing was sent; or it ended, or no reply came
                within `answer_timeout`, and the command may have been carried out.

        Cancelled: the command may have been carried out.
        """
        connection = self._connection
        if connection is None or not self.client:
            raise Lost("there is no connection")
        self._last_id += 1
        number = self._last_id
        future: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self._replies[number] = future
        try:
            async with asyncio.timeout(self._answer_timeout):
                await _send(connection, [Command(id=number, **{name: request})])  # type: ignore[arg-type]  # by name
                reply = await future
        except TimeoutError as exc:
            raise Lost(f"no answer to a command in {self._answer_timeout:g} s") from exc
        except ConnectionClosed as exc:
            raise Lost("the connection ended before its reply came") from exc
        finally:
            self._replies.pop(number, None)
        if reply is None:
            raise Lost("the connection ended before its reply came")
        return reply

    async def run(self) -> NoReturn:
        """Follow. Losing a connection is not the end of it, never getting one is.

        Raises:
            Failure: The hub cannot be reached at first, refuses for good, or speaks something else;
                or it refuses every channel.
        """
        connection = await self._dialer.dial()
        while True:
            problem = await self._converse(connection)
            connection = await self._dial_again(problem)

    async def _dial_again(self, problem: str) -> ClientConnection:
        while True:
            seconds = self._wait(self._attempts)
            self._attempts += 1
            self._watcher.notice(f"{problem}, trying again in {seconds:.1f} s")
            await asyncio.sleep(seconds)
            try:
                return await self._dialer.dial()
            except Failure as exc:
                problem = str(exc)

    async def _converse(self, connection: ClientConnection) -> str:
        """Follow the channels over one connection; return how it was lost."""
        self._connection = connection
        try:
            await self._enter(connection)
            while True:
                await self._ask_what_is_due(connection)
                message = await self._receive(connection)
                if message is not None:
                    await self._take(connection, message)
        except ConnectionClosed as exc:
            return self._closed(exc)
        except Lost as exc:
            return str(exc)
        except ProtocolViolation as exc:
            raise self._stranger(f": {exc.problem}") from exc
        finally:
            self._connection = None
            self.client = ""
            self._release_all()
            self._fail_replies()
            await connection.close()

    async def _enter(self, connection: ClientConnection) -> None:
        """Send the connect command and take its reply."""
        self._dialogue = _Dialogue()
        subs = {
            name: channel.subscription(join_leave=False)
            for name, channel in self._channels.items()
            if channel.by_server and channel.recoverable
        }
        connect = ConnectRequest(
            token=self._interest.token(),
            data=self._interest.data,
            subs=subs,
            name=self._interest.name,
        )
        self._last_id += 1
        await _send(connection, [Command(id=self._last_id, connect=connect)])
        try:
            async with asyncio.timeout(self._answer_timeout):
                message = await connection.recv()
        except TimeoutError as exc:
            raise Lost(f"no answer to the connect command in {self._answer_timeout:g} s") from exc
        reply, *rest = json_codec.decode_replies(message)
        if reply.id != self._last_id:
            raise self._stranger("")
        if reply.error is not None:
            refusal = f"{self._dialer.address.location} refuses to connect: {_said(reply.error)}"
            raise Lost(refusal) if reply.error.temporary else Failure(refusal)
        if reply.connect is None:
            raise self._stranger("")
        self._connected(reply.connect)
        await self._take_replies(connection, rest)

    def _connected(self, result: ConnectResult) -> None:
        dialogue, now = self._dialogue, _now()
        self._attempts = 0
        self.client = result.client
        self.connects += 1
        self._own.append(result.client)
        dialogue.pong = result.pong
        dialogue.silence = result.ping + self._ping_grace if result.ping else None
        dialogue.returning = set(self._channels)
        self.is_following = self.is_following or not self._channels
        for name, channel in list(self._channels.items()):
            subscribed = result.subs.get(name)
            channel.by_server = subscribed is not None
            if subscribed is not None:
                self._subscribed(channel, subscribed)
            else:
                dialogue.due[_Question.SUBSCRIBE, name] = now

    async def _receive(self, connection: ClientConnection) -> str | bytes | None:
        """Wait for a message; `None` if something is to be asked first."""
        dialogue, now = self._dialogue, _now()
        silent_at = None if dialogue.silence is None else now + dialogue.silence
        asked_at = min((at for _, _, at in dialogue.asked.values()), default=None)
        late_at = None if asked_at is None else asked_at + dialogue.held_up + self._answer_timeout
        ends = [at for at in (silent_at, late_at, *dialogue.due.values()) if at is not None]
        try:
            async with asyncio.timeout_at(min(ends, default=None)):
                return await connection.recv()
        except TimeoutError:
            end = min(ends)
            if end == silent_at:
                raise Lost(f"no ping in {dialogue.silence:g} s") from None
            if end == late_at:
                raise Lost(f"no answer to a command in {self._answer_timeout:g} s") from None
            return None

    async def _ask_what_is_due(self, connection: ClientConnection) -> None:
        dialogue, now = self._dialogue, _now()
        for (question, name), at in list(dialogue.due.items()):
            if at <= now:
                del dialogue.due[question, name]
                self._last_id += 1
                dialogue.asked[self._last_id] = question, name, now - dialogue.held_up
                command = self._command(self._last_id, question, self._channels[name])
                await _send(connection, [command])

    def _command(self, number: int, question: _Question, channel: _Channel) -> Command:
        match question:
            case _Question.SUBSCRIBE:
                join_leave = self._interest.join_leave
                return Command(id=number, subscribe=channel.subscription(join_leave=join_leave))
            case _Question.HISTORY:
                # The newest ones that are not ours already.
                since = StreamPosition(channel.offset + 1, channel.epoch) if channel.epoch else None
                history = HistoryRequest(channel.name, self._interest.history, since, reverse=True)
                return Command(id=number, history=history)
            case _Question.MEMBERS:
                channel.members_at = _now()
                return Command(id=number, presence_stats=PresenceStatsRequest(channel.name))

    async def _take(self, connection: ClientConnection, message: str | bytes) -> None:
        await self._take_replies(connection, json_codec.decode_replies(message))

    async def _take_replies(self, connection: ClientConnection, replies: Iterable[Reply]) -> None:
        pings = 0
        for reply in replies:
            if reply.id:
                self._take_answer(reply)
            elif reply.push is None:
                pings += 1
            elif reply.push.channel in self._channels:
                self._take_push(self._channels[reply.push.channel], reply.push)
        self._tell()
        if self._dialogue.pong:
            await _send(connection, [Command()] * pings)

    def _take_answer(self, reply: Reply) -> None:
        waiting = self._replies.pop(reply.id, None)
        if waiting is not None:
            if not waiting.done():
                waiting.set_result(reply)
            return
        question, name, _ = self._dialogue.asked.pop(reply.id, (None, "", 0))
        channel = self._channels.get(name)
        if channel is None:  # the hub ended it meanwhile
            return
        match question:
            case _Question.SUBSCRIBE if reply.subscribe is not None:
                self._subscribed(channel, reply.subscribe)
            case _Question.SUBSCRIBE if reply.error is not None:
                self._refused(channel, reply.error)
            case _Question.HISTORY:
                self._take_history(channel, reply.history, reply.error)
            case _Question.MEMBERS:
                stats = reply.presence_stats
                channel.members = None if stats is None else stats.num_clients
            case _:
                raise self._stranger("")

    def _take_push(self, channel: _Channel, push: Push) -> None:
        if push.pub is not None:
            self._publish(channel, push.pub, time.time())
        elif push.join is not None:
            self._join_or_leave(channel, Kind.JOIN, push.join.info)
        elif push.leave is not None:
            self._join_or_leave(channel, Kind.LEAVE, push.leave.info)
        elif push.unsubscribe is not None:
            ending = f"{push.unsubscribe.code} {push.unsubscribe.reason}"
            if push.unsubscribe.code < 2500:
                self._give_up(channel, f"the server ended the subscription: {ending}")
            else:
                self._notice(f"{channel.name}: {ending}, subscribing again")
                self._release(channel)
                self._dialogue.returning.add(channel.name)
                self._subscribe_later(channel)

    # Channels.

    def _subscribed(self, channel: _Channel, result: SubscribeResult) -> None:
        was_recovering = channel.recoverable
        channel.epoch, channel.offset = result.epoch, result.offset
        channel.recoverable = result.recoverable
        channel.refusals = 0
        if not channel.is_fresh and not result.recovered:
            why = (
                "its history does not reach back so far" if was_recovering else "it has no history"
            )
            self._notice(f"{channel.name}: something may have been missed, {why}")
        self._tell()
        self._watcher.subscribed(channel.name, result)
        for publication in result.publications:
            self._publish(channel, publication, None)
        self._dialogue.caught_up += len(result.publications)
        if channel.is_fresh and self._interest.history:
            channel.held = []
            self._dialogue.due[_Question.HISTORY, channel.name] = _now()
        if self._interest.members:
            self._dialogue.due[_Question.MEMBERS, channel.name] = _now()
        channel.is_fresh = False
        self._returned(channel)

    def _returned(self, channel: _Channel) -> None:
        """Note that a channel is awaited no longer; say so when it was the last one."""
        dialogue = self._dialogue
        if channel.name not in dialogue.returning:
            return
        dialogue.returning.remove(channel.name)
        if dialogue.returning or not self._channels:
            return
        if self.is_following:
            self._notice(f"back: {plural(dialogue.caught_up, 'publication')} caught up")
        else:
            self.is_following = True
            self._notice(f"following {_list(self._channels)} at {self._dialer.address}")
        dialogue.caught_up = 0

    def _refused(self, channel: _Channel, error: Error) -> None:
        if error.temporary:
            channel.refusals += 1
            self._notice(f"{channel.name} refused for now: {_said(error)}")
            self._subscribe_later(channel)
        else:
            self._give_up(channel, f"refused: {_said(error)}")

    def _subscribe_later(self, channel: _Channel) -> None:
        seconds = self._wait(channel.refusals)
        self._dialogue.due[_Question.SUBSCRIBE, channel.name] = _now() + seconds

    def _give_up(self, channel: _Channel, why: str) -> None:
        self._release(channel)
        self._tell()
        self._watcher.refused(channel.name, why)
        del self._channels[channel.name]
        for question in _Question:
            self._dialogue.due.pop((question, channel.name), None)
        if not self._channels:
            raise Failure("no channel is left to follow")
        self._returned(channel)

    def _take_history(
        self, channel: _Channel, result: HistoryResult | None, error: Error | None
    ) -> None:
        if error is not None:
            self._notice(f"{channel.name}: no history: {_said(error)}")
        elif channel.held is None:
            self._notice(f"{channel.name}: its history came too late and is left out")
        elif result is not None:
            for publication in reversed(result.publications):
                self._events.append(_event(channel, publication, None))
        self._release(channel)

    # What happens in them.

    def _publish(self, channel: _Channel, publication: Publication, now: float | None) -> None:
        if publication.offset:
            channel.offset = publication.offset
        channel.epoch = publication.epoch or channel.epoch
        self._append(channel, _event(channel, publication, now))

    def _join_or_leave(self, channel: _Channel, kind: Kind, info: ClientInfo) -> None:
        if self._interest.members:
            at = max(_now(), channel.members_at + _MEMBERS_INTERVAL)
            self._dialogue.due.setdefault((_Question.MEMBERS, channel.name), at)
        # Some hubs tell of joins and leaves unasked.
        if self._interest.join_leave and info.client not in self._own:
            self._append(channel, Event(kind, channel.name, time.time(), info))

    def _append(self, channel: _Channel, event: Event) -> None:
        if channel.held is None:
            self._events.append(event)
            return
        channel.held.append(event)
        if len(channel.held) >= MAX_HELD:
            self._release(channel)

    def _release(self, channel: _Channel) -> None:
        held, channel.held = channel.held, None
        self._events += held or ()

    def _release_all(self) -> None:
        for channel in self._channels.values():
            if channel.held is not None:
                self._notice(f"{channel.name}: its history did not come")
            self._release(channel)
        self._tell()

    def _tell(self) -> None:
        events, self._events = self._events, []
        if events:
            begin = time.monotonic()
            self._watcher.happened(events)
            self._dialogue.held_up += time.monotonic() - begin

    def _fail_replies(self) -> None:
        """Tell whoever asked that there will be no reply."""
        replies, self._replies = self._replies, {}
        for reply in replies.values():
            if not reply.done():
                reply.set_result(None)

    def _notice(self, text: str) -> None:
        self._tell()
        self._watcher.notice(text)

    # Endings.

    def _closed(self, exc: ConnectionClosed) -> str:
        """Say how a connection was lost.

        Raises:
            Failure: It is of no use to come back.
        """
        if exc.sent is not None and exc.sent.code == CloseCode.MESSAGE_TOO_BIG:
            raise Failure(
                f"{self._dialer.address.location} sent too large a message: {exc.sent.reason}"
            )
        if exc.rcvd is None:
            return "connection lost: no close frame"
        ending = f"{exc.rcvd.code} {exc.rcvd.reason}".rstrip()
        if is_final(exc.rcvd):
            raise Failure(f"{self._dialer.address.location} ended the connection: {ending}")
        return f"connection lost: {ending}"

    def _stranger(self, problem: str) -> Failure:
        location = self._dialer.address.location
        return Failure(f"{location} does not speak the Centrifuge client protocol{problem}")


class Lost(Exception):
    """A connection is of no use any more."""


async def _send(connection: ClientConnection, commands: Iterable[Command]) -> None:
    for command in commands:
        await connection.send(json_codec.encode_command(command), text=True)


def _event(channel: _Channel, publication: Publication, now: float | None) -> Event:
    told = publication.time / 1000
    at = told if 0 < told < _YEAR_10000 else now
    return Event(Kind.PUBLICATION, channel.name, at, publication.info, publication)


def _said(error: Error) -> str:
    return f"{error.code} {error.message}"


def _list(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown) if len(shown) <= 5 else f"{len(shown)} channels"


def _now() -> float:
    return asyncio.get_running_loop().time()
