"""The machinery of a hub in one process: its books, its broker, its tasks.

`Hub` is the face that applications see. Everything that happens comes in here: connections from
the server, events and control messages from the broker, calls from the face.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hubbub.brokers.base import Broker, Event
from hubbub.clock import Clock
from hubbub.errors import (
    DisconnectCode,
    UnknownChannel,
)
from hubbub.hub.access import check_name
from hubbub.hub.authorizing import Authorizer
from hubbub.hub.channel import Channel
from hubbub.hub.cluster import Cluster
from hubbub.hub.commands import Commands
from hubbub.hub.connecting import Connector
from hubbub.hub.fanout import Fanout
from hubbub.hub.group import Group, Tally
from hubbub.hub.links import Links
from hubbub.hub.outbox import Changes
from hubbub.hub.positions import Positions
from hubbub.hub.prolonging import Prolonging
from hubbub.hub.registry import Registry
from hubbub.hub.session import Session, finish
from hubbub.hub.steering import Steering
from hubbub.hub.subscribing import Subscriber
from hubbub.hub.timers import TimerWheel
from hubbub.hub.unsubscribing import Unsubscriber
from hubbub.model import ClientInfo, Limits, Position, Publication

if TYPE_CHECKING:
    from hubbub.auth.tokens import Tokens
    from hubbub.hub.hooks import Hook, MessageHook
    from hubbub.hub.payloads import Payloads
    from hubbub.hub.subscription import Subscription

__all__ = ["Node", "Settings"]

CHECK_INTERVAL = 40.0
"""Seconds without a publication after which a position is compared with the broker's."""

PRESENCE_SHARE = 25 / 60
"""After how much of its time presence is prolonged, at brokers that forget it."""

MAX_TTL = 365 * 86_400.0
"""Seconds until an expiry is looked at again, and that clients are told at most."""

DRAIN_TICK = 0.1
"""Seconds between two batches of sessions that a drain ends."""

LEAVE_TIMEOUT = 5.0
"""Seconds that hooks have to end when the hub is left; then they are cancelled."""

NO_TAGS: Mapping[str, str] = {}

MAX_KNOWN = 10_000
"""Channels whose declarations are kept at hand."""


class Settings:
    """What the application has registered.

    Attributes:
        channels: In order of declaration; the first that matches counts.
        methods: For rpc, by name.
        background: Functions that run while the hub runs.
    """

    def __init__(self) -> None:
        self.channels: list[Channel[Any]] = []
        self.connect: Hook | None = None
        self.refresh: Hook | None = None
        self.disconnect: Hook | None = None
        self.message: tuple[MessageHook, Payloads[Any]] | None = None
        self.background: list[Callable[[], Coroutine[Any, Any, Any]]] = []
        self.methods: dict[str, tuple[MessageHook, Payloads[Any], Payloads[Any]]] = {}


class Node:
    """The machinery; its parts know each other through it.

    Attributes:
        running: Entered, and not being left.
        draining: Takes no new sessions, and is ending those there are.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        settings: Settings,
        limits: Limits,
        clock: Clock,
        tokens: Tokens | None,
        anonymous: bool,
        insecure: bool,
        personal: str | None,
        ping_interval: float,
        pong_timeout: float,
        stale_timeout: float,
        expiry_grace: float,
        presence_ttl: float,
        version: str,
    ) -> None:
        self.broker = broker
        self.settings = settings
        self.limits = limits
        self.clock = clock
        self.tokens = tokens
        self.anonymous = anonymous
        self.insecure = insecure
        self.personal = personal
        self.ping_interval = ping_interval
        self.pong_timeout = pong_timeout
        self.stale_timeout = stale_timeout
        self.expiry_grace = expiry_grace
        self._presence_ttl = presence_ttl
        self.version = version
        self.logger = logging.getLogger("hubbub.hub")
        self.running = False
        self.draining = False
        self.wheel = TimerWheel(clock, on_error=self._timer_failed)
        self.fanout = Fanout()
        self.changes = Changes()
        self.tally = Tally()
        self.registry = Registry(self._make_group)
        self.authorizer = Authorizer(self)
        self.subscriber = Subscriber(self)
        self.unsubscriber = Unsubscriber(self)
        self.connector = Connector(self)
        self.commands = Commands(self)
        self.steering = Steering(self)
        self.cluster = Cluster(self)
        self.links = Links(broker, self.registry.groups.__contains__)
        self.positions = Positions(self)
        self.prolonging = Prolonging(self)
        self._known: dict[str, tuple[Channel[Any], dict[str, str | int]]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._left = asyncio.Event()
        self._root: asyncio.Task[None] | None = None

    # Its life.

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Connect to the broker and serve; on leaving, end all sessions with 3001.

        Raises:
            BrokerError: On entering: the broker cannot be used.
            RuntimeError: It runs already.
        """
        if self._root is not None:
            raise RuntimeError("the hub is running already")
        loop = asyncio.get_running_loop()
        entered: asyncio.Future[None] = loop.create_future()
        self._left = asyncio.Event()
        root = self._root = loop.create_task(self._live(entered), name="hubbub hub")
        try:
            await entered
            yield
        finally:
            self.stop()
            self._left.set()
            self._root = None
            await root

    async def _live(self, entered: asyncio.Future[None]) -> None:
        self.cluster.begin()
        # They wait in this loop; the hub may run in another one next time.
        self.positions, self.prolonging = Positions(self), Prolonging(self)
        try:
            async with self.broker.running(self), asyncio.TaskGroup() as group:
                self._group = group
                self.links = Links(self.broker, self.registry.groups.__contains__)
                tasks = [
                    group.create_task(self.links.run()),
                    group.create_task(self.positions.run()),
                ]
                self.running = True
                self.draining = False
                tasks += [
                    group.create_task(function(), name=f"hubbub {function.__qualname__}")
                    for function in self.settings.background
                ]
                entered.set_result(None)
                if not self.broker.alone:
                    tasks.append(group.create_task(self.prolonging.run()))
                    self.wheel.schedule(CHECK_INTERVAL, self._check_positions)
                    self.wheel.schedule(self._presence_ttl * PRESENCE_SHARE, self._prolong_presence)
                self.cluster.enter()
                try:
                    await self._left.wait()
                finally:
                    # Also when a task failed: nobody is left hanging on a hub that ends.
                    self.stop()
                    for task in tasks:
                        task.cancel()
                self.cluster.leave()
                await self._finish_tasks()
        except Exception as exc:
            if not entered.done():
                entered.set_exception(exc)
                return
            self.logger.critical("the hub has ended by a failure", exc_info=exc)
            raise
        finally:
            self._group = None
            self.running = False
            self.cluster.end()
            self.wheel.stop()

    async def _finish_tasks(self) -> None:
        """Wait for what hooks and brokers still do; not for ever."""
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        except TimeoutError:
            self.logger.warning(
                "cancelled %d hooks that did not end within %s s", len(self._tasks), LEAVE_TIMEOUT
            )
            for task in self._tasks:
                task.cancel()

    def stop(self) -> None:
        """End all sessions with 3001, behind what was published before. Idempotent."""
        self.running = False
        self.fanout.flush()
        for session in list(self.registry.connections):
            session.disconnect(DisconnectCode.SHUTDOWN)
        for group in list(self.registry.groups.values()):
            group.end()

    async def drain(self, seconds: float) -> None:
        """Take no new sessions, and end those there are with 3001, in batches.

        In an order of chance: those that came together, for a channel or from a network, do not
        all come back together.
        """
        self.draining = True
        sessions = list(self.registry.connections)
        random.shuffle(sessions)
        batch = max(1, math.ceil(len(sessions) / max(1.0, seconds / DRAIN_TICK)))
        for begin in range(0, len(sessions), batch):
            if begin:
                await asyncio.sleep(DRAIN_TICK)
            for session in sessions[begin : begin + batch]:
                session.disconnect(DisconnectCode.SHUTDOWN)
        # Whose upgrade was under way in the beginning.
        for session in list(self.registry.connections):
            session.disconnect(DisconnectCode.SHUTDOWN)

    def spawn(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine that may suspend, as a task of the hub."""
        guarded = self._guarded(coroutine)
        try:
            if self._group is None:
                raise RuntimeError("the hub is not running")
            task = self._group.create_task(guarded)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        except RuntimeError:
            # The hub has ended: nobody is left to do it for.
            guarded.close()
            coroutine.close()

    def do(self, coroutine: Coroutine[Any, Any, object], *, may_suspend: bool = False) -> None:
        """Run a coroutine that talks to the broker: now if the broker is local, else as a task."""
        if may_suspend or not self.broker.local:
            self.spawn(coroutine)
        else:
            finish(self._guarded(coroutine))

    async def _guarded(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Keep the failure of one session's work from ending the others'."""
        try:
            await coroutine
        except Exception:
            self.logger.exception("background work failed")

    def _timer_failed(self, exc: Exception) -> None:
        self.logger.error("timer failed", exc_info=exc)

    # Channels.

    def find(self, channel: str) -> tuple[Channel[Any], dict[str, str | int]]:
        """Return the declaration of a channel, and the parameters in its name.

        Raises:
            UnknownChannel: No pattern matches.
            CommandError: 107, no channel may have the name.
        """
        known = self._known.get(channel)
        if known is None:
            known = self._search(channel)
            if len(self._known) >= MAX_KNOWN:
                self._known.pop(next(iter(self._known)))
            self._known[channel] = known
        return known

    def _search(self, channel: str) -> tuple[Channel[Any], dict[str, str | int]]:
        check_name(channel, self.limits.channel_length, unicode=True)
        name = channel.removeprefix("$")
        for declaration in self.settings.channels:
            parameters = declaration.pattern.match(name)
            if parameters is not None:
                if not declaration.options.unicode:
                    check_name(channel, self.limits.channel_length, unicode=False)
                return declaration, parameters
        raise UnknownChannel(channel)

    def forget_known(self) -> None:
        """Match anew: a pattern was declared."""
        self._known.clear()

    def _make_group(self, channel: str, declaration: Channel[Any]) -> Group:
        return Group(
            channel,
            declaration,
            changes=self.changes,
            tally=self.tally,
            mark=self.fanout.mark,
            unreadable=self._unreadable,
        )

    def release(self, group: Group) -> None:
        """Forget a group that nobody is in."""
        if group.empty and self.registry.groups.get(group.channel) is group:
            del self.registry.groups[group.channel]
            self.do(self.links.unlink(group.channel))

    def _unreadable(self, subscriptions: Iterable[Subscription]) -> None:
        loop = asyncio.get_running_loop()
        for subscription in subscriptions:
            # Not from here: the caller writes to the others.
            loop.call_soon(subscription.session.disconnect, DisconnectCode.INAPPROPRIATE_PROTOCOL)

    async def publish(
        self,
        channel: str,
        declaration: Channel[Any],
        data: bytes,
        *,
        info: ClientInfo | None = None,
        tags: Mapping[str, str] = NO_TAGS,
        delta: bool | None = None,
        history: bool = True,
        idempotency_key: str = "",
        version: int = 0,
        version_epoch: str = "",
    ) -> Position:
        """Publish a payload that was checked, with the options of its channel.

        Raises:
            BrokerError: It may have been published, or not.
        """
        options = declaration.options
        return await self.broker.publish(
            channel,
            Publication(
                data,
                info,
                tags,
                options.delta if delta is None else delta,
                time=int(self.clock.time() * 1000),
            ),
            history_size=options.history if history else 0,
            history_ttl=options.ttl,
            meta_ttl=options.meta_ttl,
            idempotency_key=idempotency_key,
            version=version,
            version_epoch=version_epoch,
        )

    # From the broker.

    def deliver(self, channel: str, event: Event) -> None:
        """Take what happened in a channel (`Receiver`)."""
        group = self.registry.groups.get(channel)
        if group is not None:
            lost = group.deliver(event)
            if lost:
                self.unsubscriber.lose(lost)

    def control(self, message: bytes) -> None:
        """Take a control message (`Receiver`)."""
        self.steering.apply(message)

    def suspect(self, channels: Collection[str] | None) -> None:
        """Compare positions with the broker's (`Receiver`)."""
        groups = self.registry.groups
        chosen = list(groups) if channels is None else [each for each in channels if each in groups]
        self.positions.suspect(chosen)
        if channels is None:
            # The broker may have been away for long, or have lost what it had.
            self.prolonging.due()

    # Timers of brokers that are not alone.

    def _check_positions(self) -> None:
        self.wheel.schedule(CHECK_INTERVAL, self._check_positions)
        quiet = [name for name, group in self.registry.groups.items() if group.check_quiet()]
        if quiet:
            self.positions.suspect(quiet)

    def _prolong_presence(self) -> None:
        self.wheel.schedule(self._presence_ttl * PRESENCE_SHARE, self._prolong_presence)
        self.prolonging.due()

    @property
    def presence_ttl(self) -> float | None:
        """Seconds after which presence ends unless prolonged; `None`: never."""
        return None if self.broker.alone else self._presence_ttl

    # From sessions.

    def seconds_to(self, expires_at: float) -> float:
        """Return how long something lasts that expires at a Unix time; a year at most."""
        return min(expires_at - self.clock.time(), MAX_TTL)

    def ttl(self, expires_at: float | None) -> int:
        """Return the whole seconds that clients are told until then, at least 1."""
        return 1 if expires_at is None else int(max(1.0, self.seconds_to(expires_at)))

    def session_ended(
        self, session: Session, code: int, reason: str, *, was_connected: bool
    ) -> None:
        """Clean up after a session."""
        self.registry.connections.pop(session, None)
        self.registry.leave(session)
        subscriptions = list(session.subscriptions.values())
        session.subscriptions.clear()
        # All of them stop at once, before anything may suspend.
        for subscription in subscriptions:
            self.unsubscriber.detach(subscription)
        hook = self.settings.disconnect if was_connected else None
        if subscriptions or hook is not None:
            may_suspend = (hook is not None and hook.may_suspend) or any(
                self.unsubscriber.may_suspend(each) for each in subscriptions
            )
            self.do(
                self._farewell(session, subscriptions, code, reason, hook),
                may_suspend=may_suspend,
            )

    async def _farewell(
        self,
        session: Session,
        subscriptions: list[Subscription],
        code: int,
        reason: str,
        hook: Hook | None,
    ) -> None:
        for subscription in subscriptions:
            await self.unsubscriber.finish(subscription)
        if hook is not None:
            try:
                result = hook(session.client, code=code, reason=reason)
                if hook.may_suspend:
                    await result
            except Exception:
                self.logger.exception("on_disconnect failed")
