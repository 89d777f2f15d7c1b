"""Control messages: carried out on the sessions of this node, or for its `Cluster`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from hubbub.errors import CommandError, Disconnect
from hubbub.hub.control import (
    ChannelsAnswer,
    ChannelsQuestion,
    ClientsMessage,
    DisconnectClients,
    NodeGone,
    NodeReport,
    RefreshClients,
    SubscribeClients,
    UnsubscribeClients,
    decode,
)
from hubbub.model import Grant, Position

if TYPE_CHECKING:
    from hubbub.hub.node import Node
    from hubbub.hub.session import Session

__all__ = ["Steering"]


class Steering:
    """Does to sessions what control messages say."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def apply(self, data: bytes) -> None:
        """Carry out a message; one that is not understood is logged."""
        try:
            message = decode(data)
        except msgspec.MsgspecError:
            self._node.logger.warning("ignored a control message of another version")
            return
        if isinstance(message, NodeReport | NodeGone | ChannelsQuestion | ChannelsAnswer):
            self._node.cluster.take(message)
        else:
            self._steer(message)

    def _steer(self, message: ClientsMessage) -> None:
        for session in self._node.registry.find(message.user, message.client):
            match message:
                case DisconnectClients():
                    if session.id not in message.spare:
                        session.disconnect(message.code, message.reason)
                case RefreshClients():
                    self._node.connector.refresh_by_api(session, message.expires_at, message.info)
                case UnsubscribeClients():
                    self._unsubscribe(session, message)
                case SubscribeClients():
                    self._node.do(self._subscribe(session, message))

    def _unsubscribe(self, session: Session, message: UnsubscribeClients) -> None:
        unsubscriber = self._node.unsubscriber
        channels = [message.channel] if message.channel else list(session.subscriptions)
        for channel in channels:
            subscription = session.subscriptions.get(channel)
            if subscription is not None:
                self._node.do(
                    unsubscriber.unsubscribe(session, channel, message.code, message.reason),
                    may_suspend=unsubscriber.may_suspend(subscription),
                )

    async def _subscribe(self, session: Session, message: SubscribeClients) -> None:
        grant = Grant(
            info=message.info,
            data=message.data,
            expires_at=message.expires_at,
            override=message.override,
        )
        since = None if message.offset is None else Position(message.epoch, message.offset)
        try:
            await self._node.subscriber.subscribe_by_server(session, message.channel, grant, since)
        except CommandError as exc:
            self._node.logger.warning(
                "client %s was not subscribed to %r: %s", session.id, message.channel, exc
            )
        except Disconnect as exc:
            session.disconnect(exc.code, exc.reason)
