"""Subscriptions from the first word to the first push (client protocol §4.2, §10, §15).

    reserve    the channel is taken, for this session only
    authorize  token, hook or option
    prepare    registered, so that nothing is missed; present; the stream is read
    settle     what was missed is known: the result, or no subscription
    reply      by whoever began it
    commit     what was delivered meanwhile is written, then everything as it happens
    announce   others hear of it

From settle to commit nothing suspends. Whatever ends a subscription before commit only marks it;
the coroutine that makes it looks after every suspension, and cleans up what it has done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hubbub.errors import (
    BrokerError,
    CommandError,
    Disconnect,
    DisconnectCode,
    ErrorCode,
    PayloadError,
    PermissionDenied,
    ProtocolViolation,
)
from hubbub.hub.access import check_name
from hubbub.hub.encoding import wire_patches, wire_publication
from hubbub.hub.recovery import follow, recover_newest, recover_stream
from hubbub.hub.subscription import Subscription
from hubbub.model import Grant, History, Join, Position, Publication
from hubbub.protocol import values
from hubbub.protocol.commands import SubscribeRequest
from hubbub.protocol.replies import Push, Reply, SubscribePush
from hubbub.protocol.results import SubscribeResult

if TYPE_CHECKING:
    from hubbub.hub.node import Node
    from hubbub.hub.session import Session

__all__ = ["Ended", "Subscriber", "grants"]

_REJECT_UNRECOVERED = 2
"""Bit of `SubscribeRequest.flag`: error 112 instead of a result that did not recover."""

_SHARED_POLL = 4


@dataclass(slots=True)
class _Standing:
    """What `prepare` has found out.

    Attributes:
        read: `None` without a position.
        since: Where the client stands, if it wants to recover.
    """

    subscription: Subscription
    read: History | None
    since: Position | None
    request: SubscribeRequest
    recovered: tuple[Publication, ...] | None = None
    following: tuple[Publication, ...] = ()


class Ended(Exception):
    """The subscription ended while it was being made: nothing is left to answer."""


class Subscriber:
    """Makes subscriptions of a node's sessions."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def subscribe(self, session: Session, command: int, request: SubscribeRequest) -> None:
        """Execute a subscribe command.

        Raises:
            CommandError, FilterError, Disconnect, ProtocolViolation: There is no subscription.
        """
        subscription = self._reserve(session, request)
        try:
            await self._node.authorizer.authorize(subscription, request)
            self._check(subscription)
            if request.tf is not None:
                if not subscription.options.tags_filter:
                    raise _bad_request("the channel has no tags_filter")
                subscription.filter_by(request.tf)
            self._negotiate(subscription, request)
            standing = await self._prepare(subscription, request)
            result = self.settle(standing)
            self._node.fanout.flush()
            session.reply(Reply(id=command, subscribe=result))
            self.commit(standing)
        except Ended:
            await self.undo(subscription)
            if session.closed:
                return
            raise PermissionDenied("permission denied: ended by the server") from None
        except BaseException:
            await self.undo(subscription)
            raise
        await self.announce(subscription)

    async def subscribe_by_server(
        self,
        session: Session,
        channel: str,
        grant: Grant | None = None,
        since: Position | None = None,
    ) -> None:
        """Subscribe a connected session from the server's side; nothing if it is subscribed.

        Raises:
            CommandError: The channel is unknown, its name too long, or the session has too many.
        """
        if not session.connected or channel in session.subscriptions:
            return
        self._check_count(session)
        request = SubscribeRequest(channel=channel)
        if since is not None:
            request = SubscribeRequest(
                channel=channel, recover=True, offset=since.offset, epoch=since.epoch
            )
        subscription = self.begin_by_server(session, channel, grant or Grant())
        try:
            standing = await self.prepare_by_server(subscription, request)
            result = self.settle(standing)
            recovered = standing.recovered or ()
            self._node.fanout.flush()
            session.push(
                Push(
                    channel=channel,
                    subscribe=SubscribePush(
                        recoverable=result.recoverable,
                        epoch=result.epoch,
                        offset=result.offset,
                        positioned=result.positioned,
                        data=result.data,
                    ),
                )
            )
            # The push has no room for what was missed: it follows.
            standing.following = (*recovered, *standing.following)
            self.commit(standing)
        except Ended:
            await self.undo(subscription)
            return
        except BaseException:
            await self.undo(subscription)
            raise
        await self.announce(subscription)

    def _reserve(self, session: Session, request: SubscribeRequest) -> Subscription:
        channel, limits = request.channel, self._node.limits
        if not channel:
            raise ProtocolViolation("subscribe without a channel")
        if request.type == _SHARED_POLL:
            raise CommandError(ErrorCode.NOT_AVAILABLE)
        if request.type:
            raise PermissionDenied
        if request.delta not in ("", "fossil"):
            raise ProtocolViolation("unknown delta")
        # Only the length comes before the other checks; what it may consist of is known later.
        check_name(channel, limits.channel_length, unicode=True)
        if channel in session.subscriptions:
            raise CommandError(ErrorCode.ALREADY_SUBSCRIBED)
        self._check_count(session)
        return self._begin(session, channel, server_side=False)

    def _check_count(self, session: Session) -> None:
        limit = self._node.limits.channels
        if len(session.subscriptions) >= limit:
            raise CommandError(ErrorCode.LIMIT_EXCEEDED, f"limit exceeded: channels={limit}")

    def _begin(self, session: Session, channel: str, *, server_side: bool) -> Subscription:
        declaration, parameters = self._node.find(channel)
        subscription = Subscription(
            session, channel, declaration, parameters, server_side=server_side
        )
        session.subscriptions[channel] = subscription
        return subscription

    @staticmethod
    def _negotiate(subscription: Subscription, request: SubscribeRequest) -> None:
        """Decide which of what the client asked for it gets."""
        options = subscription.options
        recovers, positions = options.recovers, options.positions
        subscription.recoverable = recovers in (True, "cache") or (
            recovers == "asked" and (request.recoverable or request.recover)
        )
        subscription.positioned = (
            subscription.recoverable
            or positions is True
            or (positions == "asked" and request.positioned)
        )
        asked = request.delta == "fossil"
        subscription.delta = options.delta and asked and subscription.tags is None

    def begin_by_server(self, session: Session, channel: str, grant: Grant) -> Subscription:
        """Reserve a channel for a subscription that the server makes.

        Raises:
            CommandError: The channel is unknown, or its name too long.
        """
        subscription = self._begin(session, channel, server_side=True)
        subscription.apply(grant)
        return subscription

    async def prepare_by_server(
        self, subscription: Subscription, request: SubscribeRequest
    ) -> _Standing:
        """Do what comes before the result of a server-side subscription.

        Raises:
            Ended: It ended meanwhile.
        """
        self._negotiate(subscription, request)
        return await self._prepare(subscription, request)

    async def _prepare(self, subscription: Subscription, request: SubscribeRequest) -> _Standing:
        node, channel, options = self._node, subscription.channel, subscription.options
        subscription.events = options.join_leave is True or (
            options.join_leave == "asked"
            and request.join_leave
            and node.authorizer.may_read_presence(subscription)
        )
        node.registry.group(channel, subscription.declaration).register(subscription)
        await node.links.link(channel)
        self._check(subscription)
        await node.unsubscriber.wait_for_predecessor(subscription)
        self._check(subscription)
        if options.presence:
            subscription.present = True
            await node.broker.add_presence(
                channel, subscription.session.id, subscription.info, node.presence_ttl
            )
            self._check(subscription)
        since = Position(request.epoch, request.offset) if request.recover else None
        if not subscription.recoverable:
            since = None
        read = None
        if subscription.positioned:
            read = await self._read(subscription, since)
            self._check(subscription)
        return _Standing(subscription, read, since, request)

    async def _read(self, subscription: Subscription, since: Position | None) -> History:
        options, broker = subscription.options, self._node.broker
        channel, meta_ttl = subscription.channel, options.meta_ttl
        if options.recovers == "cache":
            if since is not None or options.auto_recover:
                return await broker.history(channel, limit=1, reverse=True, meta_ttl=meta_ttl)
        elif since is not None:
            return await broker.history(
                channel, since=since, limit=self._node.limits.recovery, meta_ttl=meta_ttl
            )
        return await broker.history(channel, limit=0, meta_ttl=meta_ttl)

    def settle(self, standing: _Standing) -> SubscribeResult:
        """Find out what was missed, and make the result.

        Raises:
            CommandError: 112, if the client asked for it rather than for an incomplete result.
            Disconnect: 3010, what was delivered meanwhile does not follow; 3008, it was too much.
        """
        subscription, read, since = standing.subscription, standing.read, standing.since
        self._check(subscription)
        if subscription.overflowed:
            raise Disconnect(DisconnectCode.SLOW)
        buffered = subscription.buffer or ()
        was_recovering = False
        recovered: tuple[Publication, ...] | None = None
        if read is None:
            standing.following = tuple(buffered)
            top = Position()
        else:
            top = read.position
            if subscription.options.recovers == "cache":
                was_recovering = since is not None or subscription.options.auto_recover
                recovered = recover_newest(since, read) if was_recovering else None
            elif since is not None:
                was_recovering = True
                recovered = recover_stream(since, read)
            if was_recovering and recovered is None and self._rejects(standing):
                raise CommandError(ErrorCode.UNRECOVERABLE_POSITION)
            following = follow(top, buffered)
            if following is None:
                raise Disconnect(DisconnectCode.INSUFFICIENT_STATE)
            standing.following = following
            offsets = [each.offset for each in following if each.offset]
            subscription.epoch = top.epoch
            subscription.position = offsets[-1] if offsets else top.offset
        standing.recovered = recovered
        return self._result(standing, top, was_recovering)

    @staticmethod
    def _rejects(standing: _Standing) -> bool:
        return standing.since is not None and bool(standing.request.flag & _REJECT_UNRECOVERED)

    def _result(self, standing: _Standing, top: Position, was_recovering: bool) -> SubscribeResult:
        subscription, recovered = standing.subscription, standing.recovered
        codec = subscription.wire.codec
        publications: tuple[values.Publication, ...] = ()
        offset = top.offset
        if recovered is not None:
            publications = self._publications(subscription, recovered)
            since = standing.since
            # The client advances from its own position, through the publications.
            if since is not None and subscription.options.recovers != "cache":
                offset = since.offset
        expires_at = subscription.grant.expires_at
        expires = expires_at is not None and subscription.refreshed_by_client
        return SubscribeResult(
            expires=expires,
            ttl=self._node.ttl(expires_at) if expires else 0,
            recoverable=subscription.recoverable,
            epoch=top.epoch,
            publications=publications,
            recovered=recovered is not None,
            offset=offset,
            positioned=subscription.positioned,
            data=codec.embed(subscription.grant.data),
            was_recovering=was_recovering,
            delta=subscription.delta,
        )

    @staticmethod
    def _publications(
        subscription: Subscription, recovered: Iterable[Publication]
    ) -> tuple[values.Publication, ...]:
        """Make messages of what was missed."""
        codec, passes = subscription.wire.codec, subscription.passes
        binary = subscription.declaration.payloads.binary
        try:
            if subscription.delta:
                return tuple(wire_patches(codec, recovered))
            return tuple(
                wire_publication(codec, each, binary=binary)
                for each in recovered
                if passes is None or passes(each.tags)
            )
        except PayloadError as exc:
            raise Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL) from exc

    def commit(self, standing: _Standing) -> None:
        """Begin to deliver; the result has been written."""
        subscription = standing.subscription
        group = self._node.registry.groups[subscription.channel]
        try:
            group.replay(subscription, standing.following)
        except PayloadError as exc:
            raise Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL) from exc
        group.go_live(subscription)
        self._node.unsubscriber.watch_expiry(subscription)
        subscription.announced = bool(subscription.options.join_leave)

    async def announce(self, subscription: Subscription) -> None:
        """Let others know; afterwards the subscription is anybody's to end."""
        try:
            if subscription.announced:
                await self._node.broker.announce(subscription.channel, Join(subscription.info))
        except BrokerError as exc:
            # The subscription stands. Others may have heard of it, and will hear of its end.
            self._node.logger.warning("a join was not announced: %s", exc)
        finally:
            subscription.settled = True
        if subscription.ended:
            await self._node.unsubscriber.finish(subscription)

    @staticmethod
    def _check(subscription: Subscription) -> None:
        if subscription.ended or subscription.session.closed:
            raise Ended

    async def undo(self, subscription: Subscription) -> None:
        """Leave nothing behind of a subscription that never stood."""
        self._node.unsubscriber.detach(subscription)
        subscription.announced = False
        await self._node.unsubscriber.clean_up(subscription)


def grants(channels: Iterable[str] | Mapping[str, Grant]) -> dict[str, Grant]:
    """Return what server-side subscriptions are granted, whichever way it was said."""
    if isinstance(channels, Mapping):
        return dict(channels)
    return {channel: Grant() for channel in channels}


def _bad_request(problem: str) -> CommandError:
    return CommandError(ErrorCode.BAD_REQUEST, f"bad request: {problem}")
