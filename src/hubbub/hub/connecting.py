"""Sessions from their connect command on: who it is, and for how long (client protocol §4.1)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from hubbub.auth.tokens import ConnectClaims
from hubbub.errors import (
    CommandError,
    Disconnect,
    DisconnectCode,
    ErrorCode,
    InvalidToken,
    ProtocolViolation,
    TokenExpired,
)
from hubbub.hub.session import Session, State
from hubbub.hub.subscribing import Ended, grants
from hubbub.model import ClientInfo, Grant, User
from hubbub.protocol.commands import ConnectRequest, RefreshRequest, SubscribeRequest
from hubbub.protocol.replies import Push, RefreshPush, Reply
from hubbub.protocol.results import ConnectResult, RefreshResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hubbub.hub.node import Node
    from hubbub.hub.subscription import Subscription

__all__ = ["Connector"]


@dataclass(frozen=True, slots=True)
class _Credentials:
    """Who a client is, wherever it is known from.

    Attributes:
        refreshed_by_client: The client has to prolong them, with a token.
    """

    user: str = ""
    info: bytes = b""
    expires_at: float | None = None
    grants: Mapping[str, Grant] = field(default_factory=dict)
    data: bytes = b""
    meta: Any = None
    refreshed_by_client: bool = False


class Connector:
    """Decides who connects, and keeps their expiry."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def may_suspend(self, request: ConnectRequest) -> bool:
        """Whether connecting needs a task."""
        node = self._node
        hook = node.settings.connect
        return (
            not node.broker.local
            or (hook is not None and hook.may_suspend)
            or (bool(request.token) and node.tokens is not None and not node.tokens.local)
        )

    async def connect(self, session: Session, command: int, request: ConnectRequest) -> None:
        """Execute a connect command.

        Raises:
            CommandError: It is answered with an error; the client may try again elsewhere.
            Disconnect, ProtocolViolation: The session ends.
        """
        node = self._node
        session.state = State.CONNECTING
        if not node.running:
            raise Disconnect(DisconnectCode.SHUTDOWN)
        session.name, session.version = request.name, request.version
        credentials = await self._identify(session, request)
        if session.closed:
            return
        self._accept(session, credentials)
        subscriptions: list[Subscription] = []
        try:
            standings = []
            for channel, grant in self._channels(credentials).items():
                subscription = node.subscriber.begin_by_server(session, channel, grant)
                subscriptions.append(subscription)
                state = request.subs.get(channel, SubscribeRequest())
                standings.append(await node.subscriber.prepare_by_server(subscription, state))
            results = {
                each.subscription.channel: node.subscriber.settle(each) for each in standings
            }
            session.state = State.CONNECTED
            session.registered = True
            node.fanout.flush()
            session.reply(Reply(id=command, connect=self._result(session, credentials, results)))
            for standing in standings:
                node.subscriber.commit(standing)
        except BaseException as exc:
            for subscription in subscriptions:
                await node.subscriber.undo(subscription)
            node.registry.leave(session)
            if isinstance(exc, Ended):
                if session.closed:
                    return
                # The server took back what it had given: the client comes again.
                raise CommandError(ErrorCode.INTERNAL) from None
            raise
        session.begin_pings()
        self._watch_expiry(session)
        for subscription in subscriptions:
            await node.subscriber.announce(subscription)

    async def _identify(self, session: Session, request: ConnectRequest) -> _Credentials:
        node = self._node
        hook = node.settings.connect
        credentials = None
        if request.token and (node.tokens is not None or hook is None):
            credentials = await self._verify(request.token)
        if hook is not None:
            if credentials is not None:
                session.info = ClientInfo(credentials.user, session.id, credentials.info)
                session.client.meta = credentials.meta
            user = hook(session.client, request=request)
            if hook.may_suspend:
                user = await user
            if user is not None or credentials is None:
                by_client = bool(request.token) and node.settings.refresh is not None
                credentials = _of_user(user, refreshed_by_client=by_client)
        elif credentials is None:
            if not node.anonymous and not node.insecure:
                raise ProtocolViolation("connect without a token")
            credentials = _Credentials()
        return credentials

    async def _verify(self, token: str) -> _Credentials:
        try:
            claims = await self._claims(token)
        except TokenExpired as exc:
            raise CommandError(ErrorCode.TOKEN_EXPIRED) from exc
        except InvalidToken as exc:
            self._node.logger.debug("connect refused: %s", exc)
            raise Disconnect(DisconnectCode.INVALID_TOKEN) from exc
        return _Credentials(
            user=claims.user,
            info=claims.info,
            expires_at=claims.expires_at,
            grants=claims.grants,
            meta=claims.meta,
            refreshed_by_client=claims.expires_at is not None,
        )

    async def _claims(self, token: str) -> ConnectClaims:
        if self._node.tokens is None:
            raise InvalidToken("the hub has no key for tokens")
        return await self._node.tokens.connection(token)

    def _accept(self, session: Session, credentials: _Credentials) -> None:
        """Enter the session in the books.

        Raises:
            Disconnect: The user has too many connections.
            CommandError: The credentials have expired already.
        """
        node = self._node
        limit = node.limits.user_connections
        connections = node.registry.of_user(credentials.user)
        if limit is not None and credentials.user and connections >= limit:
            raise Disconnect(DisconnectCode.CONNECTION_LIMIT)
        expires_at = credentials.expires_at
        if expires_at is not None and expires_at <= node.clock.time() and not node.insecure:
            raise CommandError(ErrorCode.EXPIRED)
        session.info = ClientInfo(credentials.user, session.id, credentials.info)
        if credentials.meta is not None:
            session.client.meta = credentials.meta
        session.expires_at = expires_at
        session.refreshed_by_client = credentials.refreshed_by_client
        session.server_channels = frozenset(credentials.grants)
        node.registry.enter(session)

    def _channels(self, credentials: _Credentials) -> dict[str, Grant]:
        """Return the channels to subscribe the client to.

        Raises:
            Disconnect: There are more than a client may have.
        """
        channels = dict(credentials.grants)
        personal = self._node.personal
        if personal is not None and credentials.user:
            channels.setdefault(personal.replace("{user}", credentials.user), Grant())
        if len(channels) > self._node.limits.channels:
            raise Disconnect(DisconnectCode.CHANNEL_LIMIT)
        return channels

    def _result(
        self, session: Session, credentials: _Credentials, subs: Mapping[str, Any]
    ) -> ConnectResult:
        node = self._node
        expires = self._expires_at_client(session)
        ping = node.ping_interval if session.pings else 0
        return ConnectResult(
            client=session.id,
            version=node.version,
            expires=expires,
            ttl=self._node.ttl(session.expires_at) if expires else 0,
            data=session.outbox.wire.codec.embed(credentials.data),
            subs=subs,
            # Whole seconds, and not 0, which would be none at all.
            ping=max(1, round(ping)) if ping else 0,
            pong=bool(ping),
        )

    # Expiry.

    def _expires_at_client(self, session: Session) -> bool:
        return (
            session.expires_at is not None
            and session.refreshed_by_client
            and not self._node.insecure
        )

    def _watch_expiry(self, session: Session) -> None:
        if session.expiry_timer is not None:
            session.expiry_timer.cancel()
            session.expiry_timer = None
        if session.expires_at is None or self._node.insecure or session.closed:
            return
        grace = self._node.expiry_grace if session.refreshed_by_client else 0.0
        left = self._node.seconds_to(session.expires_at) + grace
        session.expiry_timer = self._node.wheel.schedule(left, lambda: self._expire(session))

    def _expire(self, session: Session) -> None:
        session.expiry_timer = None
        hook = self._node.settings.refresh
        if session.refreshed_by_client or hook is None:
            session.disconnect(DisconnectCode.CONNECTION_EXPIRED)
        else:
            self._node.do(self._refresh_by_server(session), may_suspend=hook.may_suspend)

    async def _refresh_by_server(self, session: Session) -> None:
        """Ask the application whether an expired session may go on."""
        hook = self._node.settings.refresh
        assert hook is not None
        try:
            user = hook(session.client, token="")
            if hook.may_suspend:
                user = await user
            credentials = _of_user(user, refreshed_by_client=False)
            if user is None or credentials.user != session.info.user:
                raise Disconnect(DisconnectCode.CONNECTION_EXPIRED)
        except Disconnect as exc:
            session.disconnect(exc.code, exc.reason)
        except CommandError:
            session.disconnect(DisconnectCode.CONNECTION_EXPIRED)
        except Exception:
            self._node.logger.exception("on_refresh failed")
            session.disconnect(DisconnectCode.INTERNAL)
        else:
            self._prolong(
                session, credentials.expires_at, credentials.info or session.info.conn_info
            )
            if session.expires_at is not None and session.expires_at <= self._node.clock.time():
                session.disconnect(DisconnectCode.CONNECTION_EXPIRED)

    def refresh_may_suspend(self) -> bool:
        """Whether a refresh command needs a task."""
        node = self._node
        hook = node.settings.refresh
        return (node.tokens is not None and not node.tokens.local) or (
            hook is not None and hook.may_suspend
        )

    async def refresh(self, session: Session, request: RefreshRequest) -> RefreshResult:
        """Execute a refresh command.

        Raises:
            CommandError, Disconnect, ProtocolViolation: Nothing has changed.
        """
        if not request.token:
            raise ProtocolViolation("refresh without a token")
        if session.expires_at is not None and not session.refreshed_by_client:
            raise ProtocolViolation("refresh, where the server refreshes by itself")
        credentials = await self._refreshed(session, request.token)
        if credentials.user != session.info.user:
            raise Disconnect(DisconnectCode.INVALID_TOKEN)
        expires_at = credentials.expires_at
        if expires_at is not None and expires_at <= self._node.clock.time():
            raise CommandError(ErrorCode.EXPIRED)
        if frozenset(credentials.grants) != session.server_channels:
            # The client comes back, and gets the new ones.
            raise Disconnect(DisconnectCode.INSUFFICIENT_STATE)
        session.refreshed_by_client = credentials.refreshed_by_client
        self._prolong(session, expires_at, credentials.info)
        if not self._expires_at_client(session):
            return RefreshResult()
        return RefreshResult(expires=True, ttl=self._node.ttl(session.expires_at))

    async def _refreshed(self, session: Session, token: str) -> _Credentials:
        hook = self._node.settings.refresh
        if self._node.tokens is None and hook is not None:
            user = hook(session.client, token=token)
            if hook.may_suspend:
                user = await user
            if user is None:
                raise Disconnect(DisconnectCode.INVALID_TOKEN)
            return dataclasses.replace(
                _of_user(user, refreshed_by_client=True),
                grants=dict.fromkeys(session.server_channels, Grant()),
            )
        try:
            return await self._verify(token)
        except CommandError as exc:
            if exc.code == ErrorCode.TOKEN_EXPIRED:
                raise Disconnect(DisconnectCode.CONNECTION_EXPIRED) from exc
            raise

    def _prolong(self, session: Session, expires_at: float | None, info: bytes) -> None:
        session.expires_at = expires_at
        if info != session.info.conn_info:
            session.info = ClientInfo(session.info.user, session.id, info)
            for subscription in session.subscriptions.values():
                self._node.authorizer.renew(subscription, subscription.grant)
        self._watch_expiry(session)

    def refresh_by_api(
        self, session: Session, expires_at: float | None, info: bytes | None
    ) -> None:
        """Change the expiry of a session, and tell the client."""
        conn_info = session.info.conn_info if info is None else info
        self._prolong(session, expires_at, conn_info)
        expires = self._expires_at_client(session)
        ttl = self._node.ttl(session.expires_at) if expires else 0
        session.push(Push(refresh=RefreshPush(expires=expires, ttl=ttl)))


def _of_user(user: object, *, refreshed_by_client: bool) -> _Credentials:
    """Make credentials of what a hook returned."""
    if user is None:
        return _Credentials()
    if isinstance(user, str):
        return _Credentials(user=user)
    if not isinstance(user, User):
        raise TypeError(f"a hook returned {user!r}, no User, no user id and not None")
    return _Credentials(
        user=user.id,
        info=b"" if user.info is None else msgspec.json.encode(user.info),
        expires_at=user.expires_at,
        grants=grants(user.channels),
        data=b"" if user.data is None else msgspec.json.encode(user.data),
        meta=user.meta,
        refreshed_by_client=refreshed_by_client and user.expires_at is not None,
    )
