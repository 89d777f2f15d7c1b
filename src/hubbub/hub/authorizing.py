"""Who may subscribe, by token, option or hook, and for how long (client protocol §13.3, §14)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hubbub.auth.tokens import SubscribeClaims
from hubbub.errors import (
    CommandError,
    Disconnect,
    DisconnectCode,
    ErrorCode,
    InvalidToken,
    PayloadError,
    PermissionDenied,
    ProtocolViolation,
    TokenExpired,
)
from hubbub.hub.access import is_listed, permit
from hubbub.hub.subscription import Subscription
from hubbub.model import Grant
from hubbub.protocol import json
from hubbub.protocol.commands import SubRefreshRequest, SubscribeRequest
from hubbub.protocol.results import SubRefreshResult

if TYPE_CHECKING:
    from hubbub.hub.node import Node
    from hubbub.hub.session import Session

__all__ = ["Authorizer"]


class Authorizer:
    """Decides about the subscriptions that a node's clients ask for."""

    def __init__(self, node: Node) -> None:
        self._node = node

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

    async def authorize(self, subscription: Subscription, request: SubscribeRequest) -> None:
        """Decide whether a client may subscribe, and take over what it is granted.

        Raises:
            CommandError, Disconnect: It may not, or not any more.
        """
        if request.token:
            subscription.apply(await self._verify(subscription, request.token))
            subscription.refreshed_by_client = subscription.grant.expires_at is not None
        elif not self._node.insecure:
            await self._permit(subscription)
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
                try:
                    subscription.apply(grant)
                    json.embed(grant.data)
                except PayloadError as exc:
                    # The application's mistake, not the client's.
                    raise TypeError(f"on_subscribe returned a Grant whose {exc}") from exc

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
            raise CommandError(ErrorCode.BAD_REQUEST, "bad request: sub_refresh without a token")
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
        self._node.unsubscriber.watch_expiry(subscription)
        if expires_at is None:
            return SubRefreshResult()
        return SubRefreshResult(expires=True, ttl=self._node.ttl(expires_at))

    def renew(self, subscription: Subscription, grant: Grant) -> None:
        """Let others see what is new about a subscriber: in what it publishes, and in presence."""
        subscription.renew(grant)
        if subscription.present and subscription.settled and not subscription.ended:
            node, channel = self._node, subscription.channel
            entry = subscription.session.id, subscription.info
            node.do(node.broker.add_presence(channel, *entry, node.presence_ttl))

    def may_read_presence(self, subscription: Subscription) -> bool:
        """Tell whether a subscriber may see who else is in the channel."""
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
