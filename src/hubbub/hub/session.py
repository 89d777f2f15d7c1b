"""One client's conversation over a transport: commands in order, pings, expiry, the end.

    opened      nothing but a connect command is taken; 3502 after a while without one
    connecting  the connect command is being decided; what comes behind it waits
    connected   commands are executed one after the other
    refused     connect was answered with an error: the client closes, or is dropped soon
    closed      nothing is taken and nothing is sent

A command that cannot suspend is executed within the call that brought it. Otherwise one task
executes it and whatever has come since then; there is never more than one per session.
"""

from __future__ import annotations

import enum
import random
import uuid
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from hubbub.auth.rates import TokenBucket
from hubbub.errors import (
    BrokerError,
    CommandError,
    Disconnect,
    DisconnectCode,
    ErrorCode,
    FilterError,
    InvalidMessage,
    PayloadError,
    ProtocolViolation,
    TokenError,
)
from hubbub.hub.client import Client
from hubbub.hub.outbox import Outbox
from hubbub.hub.timers import WheelTimer
from hubbub.model import ClientInfo
from hubbub.protocol.commands import (
    Command,
    ConnectRequest,
    Request,
    SubscribeRequest,
    UnsubscribeRequest,
)
from hubbub.protocol.replies import Push, Reply
from hubbub.protocol.values import Error

if TYPE_CHECKING:
    from hubbub.hub.node import Node
    from hubbub.hub.subscription import Subscription

__all__ = ["Session", "State"]

REFUSED_TIMEOUT = 5.0
"""Seconds that a client whose connect was answered with an error has to close the connection."""

UNSUBSCRIBE_TIMEOUT = 5.0
"""Seconds that an unsubscribe may wait for the subscribe before it (client protocol §3.4)."""


class State(enum.Enum):
    """Where a session stands; see the module."""

    OPENED = enum.auto()
    CONNECTING = enum.auto()
    CONNECTED = enum.auto()
    REFUSED = enum.auto()
    CLOSED = enum.auto()


class Session:
    """A session.

    Attributes:
        id: Of the connection, for other clients to see.
        info: How others see it.
        subscriptions: By channel, those under way included.
        outbox: What is on its way to it.
        client: What hooks get.
        expires_at: Unix time in seconds when it ends unless refreshed; `None`: never.
        expiry_timer: Sees to that.
        server_channels: Channels that its credentials subscribe it to.
    """

    __slots__ = (
        "_awaits_pong",
        "_bucket",
        "_busy",
        "_excess",
        "_held",
        "_overdue",
        "_queue",
        "_queued",
        "_reading_paused",
        "_timer",
        "client",
        "expires_at",
        "expiry_timer",
        "id",
        "info",
        "name",
        "node",
        "outbox",
        "refreshed_by_client",
        "registered",
        "server_channels",
        "state",
        "subscriptions",
        "version",
    )

    def __init__(self, node: Node, outbox: Outbox, *, pings: bool = True) -> None:
        self.node = node
        self.outbox = outbox
        self.id = str(uuid.uuid4())
        self.info = ClientInfo("", self.id)
        self.name = self.version = ""
        self.state = State.OPENED
        self.subscriptions: dict[str, Subscription] = {}
        self.client = Client(self)
        self.expires_at: float | None = None
        self.expiry_timer: WheelTimer | None = None
        self.refreshed_by_client = False
        self.registered = False
        self.server_channels: frozenset[str] = frozenset()
        self._busy = False
        self._queue: deque[tuple[Command, int]] | None = None
        self._queued = 0
        self._reading_paused = False
        self._overdue: WheelTimer | None = None
        self._awaits_pong: bool | None = False if pings else None
        self._excess = 0
        self._held = b""  # acknowledgements for the next turn
        limits = node.limits
        self._bucket = (
            None
            if limits.commands_per_second is None
            else TokenBucket(
                limits.commands_per_second, limits.commands_burst, node.clock.monotonic()
            )
        )
        self._timer: WheelTimer | None = node.wheel.schedule(node.stale_timeout, self._stale)
        node.registry.connections[self] = None
        outbox.begin(changes=node.changes, on_fail=self.disconnect, on_end=self._connection_ended)

    @property
    def connected(self) -> bool:
        """Whether connect has succeeded and the session has not ended."""
        return self.state is State.CONNECTED

    @property
    def closed(self) -> bool:
        """Whether the session has ended."""
        return self.state is State.CLOSED

    @property
    def pings(self) -> bool:
        """Whether it is pinged in the client protocol."""
        return self._awaits_pong is not None

    def info_in(self, channel: str) -> ClientInfo:
        """Return how others see this client in a channel, subscribed or not."""
        subscription = self.subscriptions.get(channel)
        return self.info if subscription is None else subscription.info

    # Commands.

    def receive(self, frame: bytes | str) -> None:
        """Take what the client sent at once."""
        if self.state in (State.CLOSED, State.REFUSED):
            return
        try:
            commands = self.outbox.wire.codec.decode_commands(frame)
        except ProtocolViolation as exc:
            self.violate(exc.problem)
            return
        size = len(frame)
        for command in commands:
            if self.state in (State.CLOSED, State.REFUSED):
                return
            if command.is_pong:
                self._pong()
            elif self._busy:
                self._enqueue(command, size)
                size = 0  # counted once a frame
            else:
                self._start(command)

    def _start(self, command: Command) -> None:
        """Execute a command at once, or begin a task for it."""
        if not self._admit(command):
            return
        request = command.request
        if request is None:
            self.violate("command without a request")
            return
        self._busy = True
        if self.node.commands.may_suspend(self, request):
            self.node.spawn(self._execute_all(command, request))
        else:
            finish(self._execute(command, request))
            self._busy = False

    async def _execute_all(self, command: Command, request: Request) -> None:
        """Execute a command and what was queued since then."""
        try:
            await self._execute(command, request)
            while self._queue and not self.closed:
                command, size = self._queue.popleft()
                self._queued -= size
                self._resume_reading()
                if self.state is State.REFUSED or not self._admit(command):
                    continue
                if command.request is None:
                    self.violate("command without a request")
                else:
                    await self._execute(command, command.request)
        finally:
            self._busy = False
            self._queue = None
            if self._overdue is not None:
                self._overdue.cancel()
                self._overdue = None
            self._queued = 0
            self._resume_reading()

    def _enqueue(self, command: Command, size: int) -> None:
        if self._queue is None:
            self._queue = deque()
        self._queue.append((command, size))
        self._queued += size
        if self._queued > self.node.limits.queued and not self._reading_paused:
            self._reading_paused = True
            self.outbox.pause_reading()
        if isinstance(command.request, UnsubscribeRequest) and self._overdue is None:
            self._overdue = self.node.wheel.schedule(UNSUBSCRIBE_TIMEOUT, self._unsubscribe_overdue)

    def _resume_reading(self) -> None:
        if self._reading_paused and self._queued <= self.node.limits.queued:
            self._reading_paused = False
            if not self.closed:
                self.outbox.resume_reading()

    def _admit(self, command: Command) -> bool:
        """Check a command against the state and the rate, and answer it if it does not pass."""
        if self.state is State.OPENED:
            if command.connect is None:
                self.violate("command before connect")
                return False
        elif command.connect is not None:
            self.violate("second connect")
            return False
        if self._bucket is None or self._bucket.take(self.node.clock.monotonic()):
            self._excess = 0
            return True
        self._excess += 1
        if self._excess >= self.node.limits.commands_burst or self.state is State.OPENED:
            self.disconnect(DisconnectCode.TOO_MANY_REQUESTS)
        elif command.id:
            self.refuse(command.id, CommandError(ErrorCode.TOO_MANY_REQUESTS))
        return False

    async def _execute(self, command: Command, request: Request) -> None:
        """Execute one command, and answer it."""
        try:
            await self.node.commands.execute(self, command.id, request)
        except CommandError as exc:
            self.refuse(command.id, exc)
        except (FilterError, PayloadError) as exc:
            self.refuse(command.id, InvalidMessage(str(exc)))
        except ProtocolViolation as exc:
            self.violate(exc.problem)
        except Disconnect as exc:
            self.disconnect(exc.code, exc.reason)
        except (BrokerError, TokenError) as exc:
            self.node.logger.warning("command %s failed: %s", _kind(request), exc)
            if isinstance(request, SubscribeRequest):
                self.disconnect(DisconnectCode.INTERNAL)
            else:
                self.refuse(command.id, CommandError(ErrorCode.INTERNAL))
        except Exception:
            self.node.logger.exception("command %s failed", _kind(request))
            self.refuse(command.id, CommandError(ErrorCode.INTERNAL))
        if isinstance(request, ConnectRequest) and self.state is State.CONNECTING:
            self._refused()
        if isinstance(request, UnsubscribeRequest | SubscribeRequest) and self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _unsubscribe_overdue(self) -> None:
        self._overdue = None
        self.node.logger.warning(
            "an unsubscribe has waited %s s for the command before it", UNSUBSCRIBE_TIMEOUT
        )
        self.disconnect(DisconnectCode.INTERNAL)

    # Answers.

    def reply(self, reply: Reply) -> None:
        """Answer a command. Nothing is sent once the session is closed."""
        wire = self.outbox.wire
        self.outbox.write(self._take_held() + wire.frame(wire.codec.encode_reply(reply)))

    def acknowledge(self, reply: Reply) -> None:
        """Answer a publication in the loop's next turn, after what all clients have sent in this.

        A write that wakes a client takes as long as all else about a small publication; a client
        that answers at once would make each turn one for it alone.
        """
        if not self._held:
            self.node.fanout.hold(self)
        wire = self.outbox.wire
        self._held += wire.frame(wire.codec.encode_reply(reply))

    def release(self) -> None:
        """Give what is held to the outbox."""
        if self._held:
            self.outbox.write(self._take_held())

    def _take_held(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def push(self, push: Push) -> None:
        """Tell the client something unasked."""
        wire = self.outbox.wire
        self.outbox.write(self._take_held() + wire.frame(wire.codec.encode_push(push)))

    def refuse(self, command: int, error: CommandError) -> None:
        """Answer a command with an error; a command without an id has no answer."""
        if command and not self.closed:
            self.reply(Reply(id=command, error=Error(error.code, error.message, error.temporary)))

    # Pings.

    def begin_pings(self) -> None:
        """Start the timers of a session that has connected."""
        assert self._timer is not None
        self._timer.cancel()
        self._timer = None
        if self._awaits_pong is not None and self.node.ping_interval:
            interval = self.node.ping_interval
            # Not all at once after a restart.
            first = random.uniform(interval / 2, interval)  # noqa: S311 - no secret
            self._timer = self.node.wheel.schedule(first, self._ping)

    def _ping(self) -> None:
        self.outbox.write(self.outbox.wire.ping)
        self._awaits_pong = True
        self._timer = self.node.wheel.schedule(self.node.pong_timeout, self._check_pong)

    def _check_pong(self) -> None:
        # Who is not read at the moment, or has not been sent the ping, cannot have answered.
        if self._awaits_pong and not self._reading_paused and not self.outbox.waiting:
            self.disconnect(DisconnectCode.NO_PONG)
            return
        rest = self.node.ping_interval - self.node.pong_timeout
        if self._awaits_pong:
            self._timer = self.node.wheel.schedule(self.node.pong_timeout, self._check_pong)
        else:
            self._timer = self.node.wheel.schedule(rest, self._ping)

    def _pong(self) -> None:
        if self.state is not State.CONNECTED:
            self.violate("pong before connect")
        elif not self._awaits_pong:
            self.violate("pong without a ping")
        else:
            self._awaits_pong = False

    def _stale(self) -> None:
        self._timer = None
        if self.state in (State.OPENED, State.CONNECTING):
            self.disconnect(DisconnectCode.STALE)

    # The end.

    def violate(self, problem: str) -> None:
        """End the session: the client broke the protocol."""
        self.node.logger.debug("%s: %s", self.id, problem)
        self.disconnect(DisconnectCode.BAD_REQUEST)

    def disconnect(self, code: int, reason: str | None = None) -> None:
        """End the session with a close frame, behind everything that was sent. Idempotent."""
        if self.closed:
            return
        text = DisconnectCode.reason_of(code) if reason is None else reason
        flush = code not in (DisconnectCode.SLOW, DisconnectCode.WRITE_ERROR)
        if flush:
            self.release()
            self.node.fanout.flush()
        if not self.closed:
            self._end(code, text)
            self.outbox.close(code, text, flush=flush)

    def _refused(self) -> None:
        """Leave it to the client to close, but not for ever."""
        self.state = State.REFUSED
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.node.wheel.schedule(REFUSED_TIMEOUT, self._drop)

    def _drop(self) -> None:
        self._timer = None
        self.outbox.drop()

    def _connection_ended(self) -> None:
        if not self.closed:
            code = DisconnectCode.CONNECTION_CLOSED
            self._end(code, code.reason)

    def _end(self, code: int, reason: str) -> None:
        was_connected = self.registered
        self.state = State.CLOSED
        for timer in (self._timer, self.expiry_timer, self._overdue):
            if timer is not None:
                timer.cancel()
        self._timer = self.expiry_timer = self._overdue = None
        self._queue = None
        self.node.session_ended(self, code, reason, was_connected=was_connected)


def finish(coroutine: Coroutine[Any, Any, object]) -> None:
    """Run a coroutine that does not suspend.

    Raises:
        AssertionError: It did.
    """
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise AssertionError("a command that cannot suspend did")


def _kind(request: Request) -> str:
    return type(request).__name__.removesuffix("Request").lower()
