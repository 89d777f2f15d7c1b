"""A client as the application's hooks see it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from hubbub.errors import Disconnect, DisconnectCode
from hubbub.protocol.replies import MessagePush, Push

if TYPE_CHECKING:
    from websockets.http11 import Request

    from hubbub.hub.session import Session

__all__ = ["Client"]


class Client:
    """One connection of a user to the hub.

    Attributes:
        meta: Whatever the application likes; `User.meta` or a token's `meta` at first.
    """

    __slots__ = ("_session", "meta")

    def __init__(self, session: Session) -> None:
        self._session = session
        self.meta: Any = None

    def __repr__(self) -> str:
        return f"<Client {self.id} of user {self.user!r}>"

    @property
    def id(self) -> str:
        """Id of the connection: a UUID, different on every reconnect."""
        return self._session.id

    @property
    def user(self) -> str:
        """User id; empty: anonymous, or not known yet."""
        return self._session.info.user

    @property
    def info(self) -> Any:
        """What others see of the connection; `None`: nothing."""
        info = self._session.info.conn_info
        return msgspec.json.decode(info) if info else None

    @property
    def name(self) -> str:
        """Name of the client's SDK, as it says: `js`, `python`, ..."""
        return self._session.name

    @property
    def version(self) -> str:
        """Version of the client's application, as it says."""
        return self._session.version

    @property
    def request(self) -> Request:
        """The HTTP request that opened the connection: its path and headers."""
        return self._session.outbox.request

    @property
    def address(self) -> str | None:
        """IP address of the client; behind proxies, what `trusted_proxies` of `serve` say of it.

        `None`: unknown, on a Unix socket without a proxy that says it.
        """
        return self._session.outbox.client_address

    @property
    def remote_address(self) -> Any:
        """Address of the peer, as the socket has it: host and port for TCP."""
        return self._session.outbox.remote_address

    @property
    def connected(self) -> bool:
        """Whether the session stands: commands are answered, messages are sent."""
        return self._session.connected

    @property
    def channels(self) -> Iterator[str]:
        """Channels that the client is subscribed to, by itself or by the server."""
        return iter([name for name, sub in self._session.subscriptions.items() if sub.settled])

    def send(self, message: Any) -> None:
        """Send a message to this client, of no channel.

        The JavaScript SDK gives it to `message` listeners, the Python SDK ignores it. Nothing is
        sent to a client that is gone.

        Args:
            message: Anything that is JSON, or JSON text as `msgspec.Raw`.
        """
        data = message if isinstance(message, msgspec.Raw) else _raw(message)
        session = self._session
        if session.connected:
            embedded = session.outbox.wire.codec.embed(bytes(data))
            session.push(Push(message=MessagePush(embedded)))

    def disconnect(
        self, code: int = DisconnectCode.FORCE_DISCONNECT, reason: str | None = None
    ) -> None:
        """End the session. What was sent before arrives before.

        Args:
            code: See `hubbub.Disconnect`; SDKs do not reconnect after 3503, the default.

        Raises:
            ValueError: The code or the reason cannot be sent.
        """
        disconnect = Disconnect(code, reason)
        self._session.disconnect(disconnect.code, disconnect.reason)

    async def subscribe(self, channel: str) -> None:
        """Subscribe this client from the server's side; nothing if it is subscribed.

        Raises:
            UnknownChannel: No pattern matches.
            CommandError: The client's limit of channels is reached.
        """
        await self._session.node.subscriber.subscribe_by_server(self._session, channel)

    async def unsubscribe(self, channel: str) -> None:
        """End a subscription; the client does not subscribe again by itself."""
        await self._session.node.unsubscriber.unsubscribe(self._session, channel)


def _raw(message: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(message))
