"""The end of subscriptions: asked for, expired, lost, or with the session (client protocol §8)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from hubbub.errors import BrokerError, DisconnectCode, UnsubscribeCode
from hubbub.hub.subscription import Subscription
from hubbub.model import Leave
from hubbub.protocol.replies import Push, UnsubscribePush

if TYPE_CHECKING:
    from hubbub.hub.node import Node
    from hubbub.hub.session import Session

__all__ = ["Unsubscriber"]


class Unsubscriber:
    """Ends subscriptions of a node's sessions: `detach` at once, then `finish`."""

    def __init__(self, node: Node) -> None:
        self._node = node
        # Those that have ended and still have something to do at the broker.
        self._going: dict[tuple[Session, str], Subscription] = {}

    async def unsubscribe(
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

    def end(self, subscription: Subscription, code: UnsubscribeCode) -> None:
        """End a subscription from within the hub, and tell the client."""
        self._node.do(
            self.unsubscribe(subscription.session, subscription.channel, code),
            may_suspend=self.may_suspend(subscription),
        )

    def lose(self, subscriptions: Iterable[Subscription]) -> None:
        """End subscriptions that have missed something: their clients recover, or are told."""
        for subscription in subscriptions:
            session = subscription.session
            if subscription.server_side:
                session.disconnect(DisconnectCode.INSUFFICIENT_STATE)
            elif not subscription.ended:
                self.end(subscription, UnsubscribeCode.INSUFFICIENT_STATE)

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
        await self.clean_up(subscription)
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

    def may_suspend(self, subscription: Subscription) -> bool:
        """Whether `finish` needs a task."""
        hook = subscription.declaration.unsubscribe_hook
        return not self._node.broker.local or (hook is not None and hook.may_suspend)

    async def clean_up(self, subscription: Subscription) -> None:
        """Undo at the broker what a subscription has done there, after `detach`."""
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

    async def wait_for_predecessor(self, subscription: Subscription) -> None:
        """Wait until the session's last subscription to the channel has left nothing behind.

        Else what it still does could undo what this one does: presence removed, left after joined.
        """
        going = self._going.get((subscription.session, subscription.channel))
        if going is not None and going.gone is not None:
            await asyncio.shield(going.gone)

    def watch_expiry(self, subscription: Subscription) -> None:
        """End a subscription when it expires, and not when it expired before."""
        if subscription.expiry is not None:
            subscription.expiry.cancel()
            subscription.expiry = None
        expires_at = subscription.grant.expires_at
        if expires_at is None or self._node.insecure:
            return
        grace = self._node.expiry_grace if subscription.refreshed_by_client else 0.0
        left = self._node.seconds_to(expires_at) + grace

        def expire() -> None:
            subscription.expiry = None
            if subscription.server_side:
                subscription.session.disconnect(DisconnectCode.SUBSCRIPTION_EXPIRED)
            else:
                self.end(subscription, UnsubscribeCode.SUBSCRIPTION_EXPIRED)

        subscription.expiry = self._node.wheel.schedule(left, expire)
