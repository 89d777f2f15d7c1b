"""Subscriptions from their beginning to their end (client protocol §4.2, §10, §15).

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

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hubbub.auth.tokens import SubscribeClaims
from hubbub.errors import (
    BrokerError,
    CommandError,
    Disconnect,
    DisconnectCode,
    ErrorCode,
    InvalidToken,
    PayloadError,
    PermissionDenied,
    ProtocolViolation,
    TokenExpired,
    UnsubscribeCode,
)
from hubbub.hub.access import check_name, is_listed, permit
from hubbub.hub.encoding import wire_patches, wire_publication
from hubbub.hub.recovery import follow, recover_newest, recover_stream
from hubbub.hub.subscription import Subscription
from hubbub.model import Grant, History, Join, Leave, Position, Publication
from hubbub.protocol import values
from hubbub.protocol.commands import SubRefreshRequest, SubscribeRequest
from hubbub.protocol.replies import Push, Reply, SubscribePush, UnsubscribePush
from hubbub.protocol.results import SubRefreshResult, SubscribeResult

if TYPE_CHECKING:
    from hubbub.hub.node import Node
    from hubbub.hub.session import Session

__all__ = ["MAX_TTL", "Ended", "Subscriber", "grants"]

MAX_TTL = 365 * 86_400
"""Seconds that clients are told at most until something expires."""

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
    """Makes and ends subscriptions of a node's sessions."""

    def __init__(self, node: Node) -> None:
        self._node = node
        # Those that have ended and still have something to do at the broker.
        self._going: dict[tuple[Session, str], Subscription] = {}

    # By a command of the client.

    def may_suspend(self, request: SubscribeRequest) -> bool:
        """Whether subscribing needs a task."""
        node = self._node
        if not node.broker.local:
            return True
        if request.token:
            return node.tokens is not None and not node.tokens.local
        try:
            hook = node.find(request.channel)[0].subscribe_hook
        except CommandError:
            return False
        return hook is not None and hook.may_suspend

    async def subscribe(self, session: Session, command: int, request: SubscribeRequest) -> None:
        """Execute a subscribe command.

        Raises:
            CommandError, FilterError, Disconnect, ProtocolViolation: There is no subscription.
        """
        subscription = self._reserve(session, request)
        try:
            await self._authorize(subscription, request)
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
        if len(session.subscriptions) >= limits.channels:
            raise CommandError(
                ErrorCode.LIMIT_EXCEEDED, f"limit exceeded: channels={limits.channels}"
            )
        return self._begin(session, channel, server_side=False)

    def _begin(self, session: Session, channel: str, *, server_side: bool) -> Subscription:
        declaration, parameters = self._node.find(channel)
        check_name(channel, self._node.limits.channel_length, unicode=declaration.options.unicode)
        subscription = Subscription(
            session, channel, declaration, parameters, server_side=server_side
        )
        session.subscriptions[channel] = subscription
        return subscription

    async def _authorize(self, subscription: Subscription, request: SubscribeRequest) -> None:
        if request.token:
            subscription.apply(await self._verify(subscription, request.token))
            subscription.refreshed_by_client = subscription.grant.expires_at is not None
        elif not self._node.insecure:
            await self._permit(subscription)
        self._check(subscription)
        expires_at = subscription.grant.expires_at
        if expires_at is not None and expires_at <= self._node.clock.time():
            raise CommandError(ErrorCode.EXPIRED)

    async def _permit(self, subscription: Subscription) -> None:
        """Ask the channel's options, then its hook."""
        session, channel, options = subscription.session, subscription.channel, subscription.options
        if channel.startswith("$"):
            raise PermissionDenied("permission denied: the channel needs a subscription token")
        if options.user_limited and "#" in channel:
            if not is_listed(channel, session.info.user):
                raise PermissionDenied
        else:
            permit(options.subscribe, session.info.user, subscribed=False)
        hook = subscription.declaration.subscribe_hook
        if hook is not None:
            grant = hook(session.client, channel=channel, **subscription.parameters)
            if hook.may_suspend:
                grant = await grant
            if grant is not None:
                if not isinstance(grant, Grant):
                    raise TypeError(f"on_subscribe returned {grant!r}, no Grant and not None")
                subscription.apply(grant)

    async def _verify(self, subscription: Subscription, token: str) -> Grant:
        try:
            claims = await self._claims(token)
        except TokenExpired as exc:
            raise CommandError(ErrorCode.TOKEN_EXPIRED) from exc
        except InvalidToken as exc:
            raise PermissionDenied from exc
        self._match(claims, subscription)
        return claims.grant

    async def _claims(self, token: str) -> SubscribeClaims:
        if self._node.tokens is None:
            raise InvalidToken("the hub has no key for tokens")
        return await self._node.tokens.subscription(token)

    @staticmethod
    def _match(claims: SubscribeClaims, subscription: Subscription) -> None:
        """Refuse a token that was made for another user, channel or connection."""
        info = subscription.session.info
        if (
            claims.user != info.user
            or claims.channel != subscription.channel
            or (claims.client and claims.client != info.client)
        ):
            raise Disconnect(DisconnectCode.INVALID_TOKEN)

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

    # By the server.

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
        limits = self._node.limits
        if len(session.subscriptions) >= limits.channels:
            raise CommandError(
                ErrorCode.LIMIT_EXCEEDED, f"limit exceeded: channels={limits.channels}"
            )
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

    async def unsubscribe_by_server(
        self,
        session: Session,
        channel: str,
        code: int = UnsubscribeCode.SERVER_UNSUBSCRIBED,
        reason: str | None = None,
    ) -> None:
        """End a subscription and tell the client; nothing if there is none."""
        subscription = session.subscriptions.get(channel)
        if subscription is None:
            return
        text = UnsubscribeCode.reason_of(code) if reason is None else reason
        self._node.fanout.flush()
        live = subscription.buffer is None
        self.detach(subscription, code, text)
        if live:
            session.push(Push(channel=channel, unsubscribe=UnsubscribePush(code, text)))
        await self.finish(subscription)

    # The steps.

    async def _prepare(self, subscription: Subscription, request: SubscribeRequest) -> _Standing:
        node, channel, options = self._node, subscription.channel, subscription.options
        subscription.events = options.join_leave is True or (
            options.join_leave == "asked"
            and request.join_leave
            and self._may_read_presence(subscription)
        )
        node.registry.group(channel, subscription.declaration).register(subscription)
        await node.links.link(channel)
        self._check(subscription)
        await self._succeed(subscription)
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
            ttl=self._ttl(expires_at) if expires else 0,
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
        self._watch_expiry(subscription)
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
            await self.finish(subscription)

    @staticmethod
    def _check(subscription: Subscription) -> None:
        if subscription.ended or subscription.session.closed:
            raise Ended

    async def undo(self, subscription: Subscription) -> None:
        """Leave nothing behind of a subscription that never stood."""
        self.detach(subscription)
        subscription.announced = False
        await self._clean_up(subscription)

    # The end.

    def detach(
        self,
        subscription: Subscription,
        code: int = UnsubscribeCode.CLIENT_DISCONNECTED,
        reason: str = UnsubscribeCode.CLIENT_DISCONNECTED.reason,
    ) -> None:
        """Take a subscription out of everything on this node, at once. Idempotent."""
        if not subscription.ended:
            subscription.ended = True
            subscription.code, subscription.reason = code, reason
            if not (self._node.broker.local or subscription.session.closed):
                subscription.gone = asyncio.get_running_loop().create_future()
                self._going[subscription.session, subscription.channel] = subscription
        if subscription.expiry is not None:
            subscription.expiry.cancel()
            subscription.expiry = None
        subscriptions, channel = subscription.session.subscriptions, subscription.channel
        if subscriptions.get(channel) is subscription:
            del subscriptions[channel]
        group = self._node.registry.groups.get(channel)
        if group is not None:
            group.leave(subscription)
            self._node.release(group)

    async def finish(self, subscription: Subscription) -> None:
        """Tell others and the application that a subscription has ended, after `detach`.

        One that is still being made is left to the coroutine that makes it.
        """
        if not subscription.settled:
            return
        await self._clean_up(subscription)
        hook = subscription.declaration.unsubscribe_hook
        if hook is not None:
            try:
                result = hook(
                    subscription.session.client,
                    code=subscription.code,
                    reason=subscription.reason,
                    channel=subscription.channel,
                    **subscription.parameters,
                )
                if hook.may_suspend:
                    await result
            except Exception:
                self._node.logger.exception("on_unsubscribe failed")

    def end_may_suspend(self, subscription: Subscription) -> bool:
        """Whether `finish` needs a task."""
        hook = subscription.declaration.unsubscribe_hook
        return not self._node.broker.local or (hook is not None and hook.may_suspend)

    async def _clean_up(self, subscription: Subscription) -> None:
        try:
            await self._remove_presence(subscription)
            await self._announce_end(subscription)
        finally:
            if subscription.gone is not None and not subscription.gone.done():
                subscription.gone.set_result(None)
                key = subscription.session, subscription.channel
                if self._going.get(key) is subscription:
                    del self._going[key]

    async def _remove_presence(self, subscription: Subscription) -> None:
        channel, session = subscription.channel, subscription.session
        if subscription.present:
            subscription.present = False
            current = session.subscriptions.get(channel)
            if current is None or not current.present:
                try:
                    await self._node.broker.remove_presence(channel, session.id)
                except BrokerError as exc:
                    self._node.logger.warning("presence will end by itself only: %s", exc)

    async def _announce_end(self, subscription: Subscription) -> None:
        if subscription.announced:
            subscription.announced = False
            if self._node.broker.local and not self._node.running:
                return  # nobody is left to hear it; each would be written to all that go next
            try:
                await self._node.broker.announce(subscription.channel, Leave(subscription.info))
            except BrokerError as exc:
                self._node.logger.warning("a leave was not announced: %s", exc)

    async def _succeed(self, subscription: Subscription) -> None:
        """Wait until the session's last subscription to the channel has left nothing behind.

        Else what it still does could undo what this one does: presence removed, left after joined.
        """
        going = self._going.get((subscription.session, subscription.channel))
        if going is not None and going.gone is not None:
            await asyncio.shield(going.gone)

    def lose(self, subscriptions: Iterable[Subscription]) -> None:
        """End subscriptions that have missed something: their clients recover, or are told."""
        for subscription in subscriptions:
            session = subscription.session
            if subscription.server_side:
                session.disconnect(DisconnectCode.INSUFFICIENT_STATE)
            elif not subscription.ended:
                self.end(subscription, UnsubscribeCode.INSUFFICIENT_STATE)

    def end(self, subscription: Subscription, code: UnsubscribeCode) -> None:
        """End a subscription from within the hub, and tell the client."""
        self._node.do(
            self.unsubscribe_by_server(subscription.session, subscription.channel, code),
            may_suspend=self.end_may_suspend(subscription),
        )

    # Expiry.

    def _ttl(self, expires_at: float | None) -> int:
        assert expires_at is not None
        left = expires_at - self._node.clock.time()
        return int(max(1, min(left, MAX_TTL)))

    def _watch_expiry(self, subscription: Subscription) -> None:
        if subscription.expiry is not None:
            subscription.expiry.cancel()
            subscription.expiry = None
        expires_at = subscription.grant.expires_at
        if expires_at is None or self._node.insecure:
            return
        grace = self._node.expiry_grace if subscription.refreshed_by_client else 0.0
        left = min(expires_at - self._node.clock.time(), MAX_TTL) + grace

        def expire() -> None:
            subscription.expiry = None
            if subscription.server_side:
                subscription.session.disconnect(DisconnectCode.SUBSCRIPTION_EXPIRED)
            else:
                self.end(subscription, UnsubscribeCode.SUBSCRIPTION_EXPIRED)

        subscription.expiry = self._node.wheel.schedule(left, expire)

    async def refresh(self, session: Session, request: SubRefreshRequest) -> SubRefreshResult:
        """Execute a sub_refresh command.

        Raises:
            CommandError, Disconnect, ProtocolViolation: Nothing has changed.
        """
        if request.type:
            raise CommandError(ErrorCode.NOT_AVAILABLE)
        if not request.token:
            if not request.channel:
                raise ProtocolViolation("sub_refresh without a channel")
            raise _bad_request("sub_refresh without a token")
        try:
            claims = await self._claims(request.token)
        except TokenExpired as exc:
            raise CommandError(ErrorCode.TOKEN_EXPIRED) from exc
        except InvalidToken as exc:
            raise Disconnect(DisconnectCode.INVALID_TOKEN) from exc
        # centrifuge-python sends no channel: its token says which subscription is meant.
        channel = request.channel or claims.channel
        subscription = session.subscriptions.get(channel)
        if subscription is None or subscription.ended:
            raise PermissionDenied
        if subscription.server_side:
            raise ProtocolViolation("sub_refresh of a server-side subscription")
        self._match(claims, subscription)
        expires_at = claims.grant.expires_at
        if expires_at is not None and expires_at <= self._node.clock.time():
            raise CommandError(ErrorCode.EXPIRED)
        self.renew(subscription, claims.grant)
        subscription.refreshed_by_client = expires_at is not None
        self._watch_expiry(subscription)
        if expires_at is None:
            return SubRefreshResult()
        return SubRefreshResult(expires=True, ttl=self._ttl(expires_at))

    def renew(self, subscription: Subscription, grant: Grant) -> None:
        """Let others see what is new about a subscriber: in what it publishes, and in presence."""
        subscription.renew(grant)
        if subscription.present and subscription.settled and not subscription.ended:
            node, channel = self._node, subscription.channel
            entry = subscription.session.id, subscription.info
            node.do(node.broker.add_presence(channel, *entry, node.presence_ttl))

    def _may_read_presence(self, subscription: Subscription) -> bool:
        if self._node.insecure:
            return True
        try:
            permit(
                subscription.options.read_presence,
                subscription.session.info.user,
                subscribed=True,
            )
        except PermissionDenied:
            return False
        return True


def grants(channels: Iterable[str] | Mapping[str, Grant]) -> dict[str, Grant]:
    """Return what server-side subscriptions are granted, whichever way it was said."""
    if isinstance(channels, Mapping):
        return dict(channels)
    return {channel: Grant() for channel in channels}


def _bad_request(problem: str) -> CommandError:
    return CommandError(ErrorCode.BAD_REQUEST, f"bad request: {problem}")
