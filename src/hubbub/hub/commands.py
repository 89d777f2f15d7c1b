"""What clients ask, executed (client protocol §4). Checks come in the order written there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hubbub.errors import (
    CommandError,
    Disconnect,
    DisconnectCode,
    ErrorCode,
    PayloadError,
    PermissionDenied,
    ProtocolViolation,
    UnsubscribeCode,
)
from hubbub.hub.access import permit
from hubbub.hub.encoding import wire_info, wire_publication
from hubbub.model import Access, Position
from hubbub.protocol.commands import (
    ConnectRequest,
    HistoryRequest,
    PingRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    Request,
    RPCRequest,
    SendRequest,
    SubRefreshRequest,
    SubscribeRequest,
    UnsubscribeRequest,
)
from hubbub.protocol.replies import Reply
from hubbub.protocol.results import (
    HistoryResult,
    PingResult,
    PresenceResult,
    PresenceStatsResult,
    PublishResult,
    RPCResult,
    UnsubscribeResult,
)

if TYPE_CHECKING:
    from hubbub.hub.channel import Channel
    from hubbub.hub.node import Node
    from hubbub.hub.session import Session

__all__ = ["Commands"]

_PUBLISHED = PublishResult()
_UNSUBSCRIBED = UnsubscribeResult()


class Commands:
    """Executes the commands of a node's sessions."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def may_suspend(self, session: Session, request: Request) -> bool:
        """Whether a command needs a task, because a hook or the broker may suspend."""
        node = self._node
        settings = node.settings
        match request:
            case PublishRequest():
                return not node.broker.local or self._publish_hook_suspends(request.channel)
            case SubscribeRequest():
                return node.authorizer.may_suspend(request)
            case UnsubscribeRequest():
                subscription = session.subscriptions.get(request.channel)
                return subscription is not None and node.unsubscriber.may_suspend(subscription)
            case ConnectRequest():
                return node.connector.may_suspend(request)
            case RPCRequest():
                method = settings.methods.get(request.method)
                return method is not None and method[0].may_suspend
            case SendRequest():
                return settings.message is not None and settings.message[0].may_suspend
            case RefreshRequest():
                return node.connector.refresh_may_suspend()
            case SubRefreshRequest():
                return node.tokens is not None and not node.tokens.local
            case PingRequest():
                return False
            case HistoryRequest() | PresenceRequest() | PresenceStatsRequest():
                return not node.broker.local

    async def execute(self, session: Session, command: int, request: Request) -> None:
        """Execute a command and answer it.

        Args:
            command: Its id.

        Raises:
            CommandError, FilterError, PayloadError: It is to be answered with an error.
            Disconnect, ProtocolViolation: The session is to end.
        """
        match request:
            case PublishRequest():
                await self._publish(session, request)
                session.acknowledge(Reply(id=command, publish=_PUBLISHED))
            case SubscribeRequest():
                await self._node.subscriber.subscribe(session, command, request)
            case UnsubscribeRequest():
                await self._unsubscribe(session, request)
                session.reply(Reply(id=command, unsubscribe=_UNSUBSCRIBED))
            case ConnectRequest():
                await self._node.connector.connect(session, command, request)
            case RPCRequest():
                session.reply(Reply(id=command, rpc=await self._call(session, request)))
            case SendRequest():
                await self._take_message(session, request)
            case HistoryRequest():
                session.reply(Reply(id=command, history=await self._history(session, request)))
            case PresenceRequest():
                session.reply(Reply(id=command, presence=await self._presence(session, request)))
            case PresenceStatsRequest():
                stats = await self._presence_stats(session, request)
                session.reply(Reply(id=command, presence_stats=stats))
            case RefreshRequest():
                refreshed = await self._node.connector.refresh(session, request)
                session.reply(Reply(id=command, refresh=refreshed))
            case SubRefreshRequest():
                prolonged = await self._node.authorizer.refresh(session, request)
                session.reply(Reply(id=command, sub_refresh=prolonged))
            case PingRequest():
                session.reply(Reply(id=command, ping=PingResult()))

    # Publishing.

    def _publish_hook_suspends(self, channel: str) -> bool:
        try:
            hook = self._node.find(channel)[0].publish_hook
        except CommandError:
            return False
        return hook is not None and hook.may_suspend

    async def _publish(self, session: Session, request: PublishRequest) -> None:
        declaration, parameters = self._find(request.channel, "publish")
        if request.type:
            raise PermissionDenied
        data = bytes(request.data)
        if not data:
            raise CommandError(ErrorCode.BAD_REQUEST, "bad request: publish without data")
        payloads, hook = declaration.payloads, declaration.publish_hook
        access = declaration.options.publish
        if access is None:
            access = "nobody" if hook is None else "anyone"
        self._permit(session, request.channel, access)
        data = payloads.accept(data, json_checked=not session.outbox.wire.codec.BINARY)
        if hook is None:
            payloads.check(data)
        else:
            changed = hook(
                session.client,
                message=payloads.decode(data),
                channel=request.channel,
                **parameters,
            )
            if hook.may_suspend:
                changed = await changed
            if changed is not None:
                data = payloads.encode(changed)
        await self._node.publish(
            request.channel, declaration, data, info=session.info_in(request.channel)
        )

    # Subscriptions.

    async def _unsubscribe(self, session: Session, request: UnsubscribeRequest) -> None:
        if not request.channel:
            raise ProtocolViolation("unsubscribe without a channel")
        subscription = session.subscriptions.get(request.channel)
        if subscription is not None:
            code = UnsubscribeCode.CLIENT_UNSUBSCRIBED
            self._node.unsubscriber.detach(subscription, code, code.reason)
            await self._node.unsubscriber.finish(subscription)

    # Reading.

    async def _history(self, session: Session, request: HistoryRequest) -> HistoryResult:
        channel = request.channel
        declaration, _ = self._find(channel, "history")
        options = declaration.options
        if not options.history:
            raise CommandError(ErrorCode.NOT_AVAILABLE, "not available: history is off")
        self._permit(session, channel, options.read_history)
        since = None
        if request.since is not None:
            since = Position(request.since.epoch, request.since.offset)
            if request.reverse and not since.offset:
                raise CommandError(
                    ErrorCode.BAD_REQUEST, "bad request: reverse needs an offset above 0 in since"
                )
        most = self._node.limits.history
        limit = most if request.limit < 0 else min(request.limit, most)
        page = await self._node.broker.history(
            channel, since=since, limit=limit, reverse=request.reverse, meta_ttl=options.meta_ttl
        )
        top = page.position
        if since is not None and since.epoch and since.epoch != top.epoch:
            raise CommandError(ErrorCode.UNRECOVERABLE_POSITION)
        codec, binary = session.outbox.wire.codec, declaration.payloads.binary
        try:
            publications = tuple(
                wire_publication(codec, each, binary=binary) for each in page.publications
            )
        except PayloadError as exc:
            raise Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL) from exc
        return HistoryResult(publications, top.epoch, top.offset)

    async def _presence(self, session: Session, request: PresenceRequest) -> PresenceResult:
        self._check_presence(session, request.channel, "presence")
        members = await self._node.broker.presence(request.channel)
        return PresenceResult({client: wire_info(info) for client, info in members.items()})

    async def _presence_stats(
        self, session: Session, request: PresenceStatsRequest
    ) -> PresenceStatsResult:
        self._check_presence(session, request.channel, "presence_stats")
        stats = await self._node.broker.presence_stats(request.channel)
        return PresenceStatsResult(stats.clients, stats.users)

    def _check_presence(self, session: Session, channel: str, command: str) -> None:
        options = self._find(channel, command)[0].options
        if not options.presence:
            raise CommandError(ErrorCode.NOT_AVAILABLE, "not available: presence is off")
        self._permit(session, channel, options.read_presence)

    # Methods and messages of the application.

    async def _call(self, session: Session, request: RPCRequest) -> RPCResult:
        methods = self._node.settings.methods
        if not methods:
            raise CommandError(ErrorCode.NOT_AVAILABLE)
        method = methods.get(request.method)
        if method is None:
            raise CommandError(ErrorCode.METHOD_NOT_FOUND)
        hook, parameters, results = method
        arguments: tuple[Any, ...] = ()
        if hook.takes_message:
            arguments = (parameters.decode(bytes(request.data) or b"null"),)
        result = hook(session.client, *arguments)
        if hook.may_suspend:
            result = await result
        return RPCResult(session.outbox.wire.codec.embed(results.encode(result)))

    async def _take_message(self, session: Session, request: SendRequest) -> None:
        message = self._node.settings.message
        if message is None:
            raise Disconnect(DisconnectCode.NOT_AVAILABLE)
        hook, payloads = message
        arguments = (payloads.decode(bytes(request.data) or b"null"),) if hook.takes_message else ()
        result = hook(session.client, *arguments)
        if hook.may_suspend:
            await result

    # Checks.

    def _find(self, channel: str, command: str) -> tuple[Channel[Any], dict[str, str | int]]:
        if not channel:
            raise ProtocolViolation(f"{command} without a channel")
        return self._node.find(channel)

    def _permit(self, session: Session, channel: str, access: Access) -> None:
        if not self._node.insecure:
            permit(access, session.info.user, subscribed=channel in session.subscriptions)
