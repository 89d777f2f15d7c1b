"""The hub as applications see it: declarations, hooks, and what a server can do to channels."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

import msgspec
from starlette.types import ASGIApp
from websockets.http11 import Request, Response

from hubbub.auth.origins import Origins
from hubbub.auth.tokens import Tokens
from hubbub.brokers.base import Broker
from hubbub.brokers.opening import check_reach, open_broker
from hubbub.clock import Clock, SystemClock
from hubbub.errors import (
    CommandError,
    ConfigError,
    Disconnect,
    DisconnectCode,
    ErrorCode,
    UnsubscribeCode,
)
from hubbub.hub.asgi import asgi_app
from hubbub.hub.channel import Channel
from hubbub.hub.client import Client
from hubbub.hub.control import (
    ClientsMessage,
    DisconnectClients,
    RefreshClients,
    SubscribeClients,
    UnsubscribeClients,
    encode,
)
from hubbub.hub.hooks import Hook, MessageHook, check_background
from hubbub.hub.listening import Listening
from hubbub.hub.node import NO_TAGS, Node, Settings
from hubbub.hub.outbox import Outbox
from hubbub.hub.payloads import Payloads
from hubbub.hub.reception import admit, receive
from hubbub.hub.session import Session
from hubbub.model import (
    ChannelKeywords,
    ChannelOptions,
    ClientInfo,
    ClusterChannels,
    Grant,
    History,
    Limits,
    NodeInfo,
    Position,
    PresenceStats,
)
from hubbub.server.connection import ServerConnection

__all__ = ["Hub"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
B = TypeVar("B", bound=Callable[[], Coroutine[Any, Any, Any]])


class Hub:
    """Channels with history, recovery and presence, for clients that speak the Centrifuge protocol.

    A hub is a handler: `serve(hub, "localhost", 8005)`, or among others by path,
    `serve({"/connection/websocket": hub}, ...)`. `serve` enters and leaves it; by itself it is
    entered by `async with hub`.

    Args:
        broker: URL of what carries publications and keeps history, or an object that does:
            `memory:`, or `sqlite:///path`, which outlives the process. `None`: the URL in the
            environment variable `HUBBUB_BROKER`, else `memory:`.
        tokens: Verifies connection and subscription tokens. `None`: tokens are refused.
        anonymous: Whether clients may connect without a token. `None`: if `tokens` is `None`.
            With a hook for `on_connect`, the hook decides.
        insecure: For development: everybody may subscribe, publish and read everywhere, and
            nothing expires. Hooks for connecting and publishing are called as ever.
        origins: Patterns of origins whose pages may connect, such as `https://*.example.com`; `*`
            is all. Pages of the server's own origin always may, and so may clients that send no
            `Origin`. Others are refused with 403.
        personal: Name of a channel that each user is subscribed to on connecting, with `{user}`
            in the place of the user id: `"personal:{user}"`.
        limits: Bounds of what clients may ask.
        ping_interval: Seconds between pings; 0: none.
        pong_timeout: Seconds for a client to answer one, less than `ping_interval`.
        stale_timeout: Seconds for a client to send its connect command.
        expiry_grace: Seconds beyond their expiry that connections and subscriptions have to be
            refreshed by the client.
        presence_ttl: Seconds after which clients of a node that has crashed are present no longer,
            with a broker that has several nodes. The node prolongs them after 5/12 of it.
        clock: For tests; `None`: the system's.

    Raises:
        ConfigError: The broker's URL is not understood.
        ValueError: An option is out of range.
    """

    def __init__(
        self,
        broker: str | Broker | None = None,
        *,
        tokens: Tokens | None = None,
        anonymous: bool | None = None,
        insecure: bool = False,
        origins: Sequence[str] = (),
        personal: str | None = None,
        limits: Limits | None = None,
        ping_interval: float = 25.0,
        pong_timeout: float = 10.0,
        stale_timeout: float = 15.0,
        expiry_grace: float = 25.0,
        presence_ttl: float = 60.0,
        clock: Clock | None = None,
    ) -> None:
        if ping_interval and not 0 < pong_timeout < ping_interval:
            raise ValueError(
                f"pong_timeout={pong_timeout} must be above 0 and below "
                f"ping_interval={ping_interval}"
            )
        if not presence_ttl > 0:
            raise ValueError(f"presence_ttl={presence_ttl}: seconds, above 0")
        clock = clock or SystemClock()
        self._settings = Settings()
        self._origins = Origins(origins)
        self._node = Node(
            open_broker(broker, clock) if broker is None or isinstance(broker, str) else broker,
            settings=self._settings,
            limits=limits or Limits(),
            clock=clock,
            tokens=tokens,
            anonymous=tokens is None if anonymous is None else anonymous,
            insecure=insecure,
            personal=personal,
            ping_interval=ping_interval,
            pong_timeout=pong_timeout,
            stale_timeout=stale_timeout,
            expiry_grace=expiry_grace,
            presence_ttl=presence_ttl,
            version=f"hubbub {importlib.metadata.version('hubbub')}",
        )
        self._entered: contextlib.AbstractAsyncContextManager[None] | None = None

    # Its life.

    @property
    def running(self) -> bool:
        """Whether the hub was entered and has not been left or stopped."""
        return self._entered is not None and self._node.running

    @property
    def outage(self) -> str | None:
        """Why clients should go elsewhere at the moment; `None`: the hub is at their service."""
        if not self.running:
            return "stopping" if self._entered is not None else "not running"
        return "draining" if self._node.draining else self._node.broker.outage

    async def __aenter__(self) -> Self:
        """Connect to the broker.

        Raises:
            ConfigError: The channel of `personal` is not declared; or the broker reaches this
                process alone, which is one of several workers.
            BrokerError: The broker cannot be used.
            RuntimeError: The hub is running already.
        """
        if self._entered is not None:
            raise RuntimeError("the hub is running already")
        self._check_personal()
        check_reach(self._node.broker)
        # At once: functions in the background begin before this returns.
        self._entered = entered = self._node.run()
        try:
            await entered.__aenter__()
        except BaseException:
            self._entered = None
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all sessions with 3001, and disconnect from the broker."""
        entered, self._entered = self._entered, None
        if entered is not None:
            await entered.__aexit__(None, None, None)

    def stop(self) -> None:
        """End all sessions with 3001, after what was published; take no new ones. Idempotent."""
        self._node.stop()

    async def drain(self, seconds: float) -> None:
        """Take no new sessions (503), and end those there are with 3001, little by little.

        Clients come back elsewhere and recover; the seconds are for those who then have to serve
        them all. Sessions are ended in an order of chance, every tenth of a second as many as it
        takes, and at least one. Everything else goes on until the hub is left. `Server.drain`
        calls it, and so does `hubbub run` when it is asked to stop.

        Args:
            seconds: How long it takes at most; 0: all sessions are ended at once.

        Cancelled: the rest of the sessions go on, and no new ones are taken.
        """
        await self._node.drain(seconds)

    # As a handler.

    def process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Decide whether a client may connect, before the upgrade; `serve` calls it."""
        return admit(self._node, self._origins, connection, request)

    async def __call__(self, connection: ServerConnection, **parameters: str) -> None:
        """Handle a connection; `serve` calls it.

        Args:
            parameters: Of the path. They mean nothing here; `Client.request` has the path.
        """
        await receive(self._node, connection)

    @functools.cached_property
    def asgi(self) -> ASGIApp:
        """The hub as an ASGI app, to be mounted into another one under any ASGI server.

            app.mount("/connection", hub.asgi)  # ws://.../connection/websocket

        Slower than `serve(hub, ..., http=app)`, and otherwise the same. The app has to enter the
        hub in its lifespan, by `async with hub`.
        """
        return asgi_app(self._node, self._origins)

    def open_session(self, outbox: Outbox) -> Session:
        """Begin a session over a transport of your own (`hubbub.hub.outbox.Outbox`).

        Pass what the client sends to `Session.receive`, and call what `Outbox.begin` was given when
        the client is gone.

        Raises:
            RuntimeError: The hub is not running.
        """
        self._check_running()
        return Session(self._node, outbox)

    # Declarations.

    @overload
    def channel(
        self, pattern: str, type_: type[T], /, **options: Unpack[ChannelKeywords]
    ) -> Channel[T]: ...

    @overload
    def channel(
        self, pattern: str, type_: Any = ..., /, **options: Unpack[ChannelKeywords]
    ) -> Channel[Any]: ...

    def channel(
        self, pattern: str, type_: Any = Any, /, **options: Unpack[ChannelKeywords]
    ) -> Channel[Any]:
        """Declare channels; what is not declared does not exist for clients (error 102).

        Args:
            pattern: Name, with parameters: `chat:{room}`; `{id:int}` takes digits, `{rest:path}`
                colons too. The first declared pattern that matches counts.
            type_: What the channels carry: a msgspec Struct, dataclass, TypedDict, pydantic model
                or any type hint that msgspec knows; what clients publish is checked against it.
                `bytes` is opaque, for clients that speak Protobuf. `Any`: any JSON, not parsed.
            options: See `ChannelOptions`.

        Raises:
            ValueError: The pattern or an option cannot be used.
            TypeError: The type cannot be decoded, or an option is unknown.
        """
        declaration: Channel[Any] = Channel(pattern, type_, ChannelOptions(**options))
        self._settings.channels.append(declaration)
        self._node.forget_known()
        return declaration

    def on_connect(self, function: F) -> F:
        """Register the function that decides who connects.

        It is called with the client, and with `request` by keyword if it names it: the
        `ConnectRequest`, with `token`, `data`, `headers`. It returns a `User`, a user id, or
        `None`: what a token says stands, without one the client is anonymous. It refuses by raising
        `PermissionDenied` or another `CommandError`, or `Disconnect`.
        """
        self._settings.connect = Hook(function, {"request"})
        return function

    def on_refresh(self, function: F) -> F:
        """Register the function that decides whether a connection may go on beyond its expiry.

        It is called with the client, and with `token` by keyword if it names it: what the client
        sent, or empty when the connection expires without the client's doing. It returns a `User`
        with a later `expires_at`, or `None` to end the connection.
        """
        self._settings.refresh = Hook(function, {"token"})
        return function

    def on_disconnect(self, function: F) -> F:
        """Register a function that is told when a session that had connected has ended.

        It is called with the client, and by keyword with what it names of `code` and `reason`
        (`hubbub.errors.DisconnectCode`); 3000 is a client that has gone by itself.
        """
        self._settings.disconnect = Hook(function, {"code", "reason"})
        return function

    def on_message(self, function: F) -> F:
        """Register the function that takes the messages that clients send without a channel.

        It is called with the client and the message. Annotate the message with a type to have it
        checked; a message that does not fit is dropped, since there is no way to answer it.
        """
        hook = MessageHook(function)
        self._settings.message = (hook, Payloads(hook.type))
        return function

    def rpc(self, method: str) -> Callable[[F], F]:
        """Register a method that clients can call; what it returns is the result.

        It is called with the client, and with the parameters if it takes a second argument;
        annotate it with a type to have them checked (error 107). It fails by raising a
        `CommandError`; other exceptions are logged, and the client gets error 100.

        Raises:
            ValueError: The method's name is empty, or registered already.
        """
        if not method or method in self._settings.methods:
            raise ValueError(f"rpc method {method!r} is empty or registered already")

        def register(function: F) -> F:
            hook = MessageHook(function)
            self._settings.methods[method] = (hook, Payloads(hook.type), Payloads())
            return function

        return register

    def background(self, function: B) -> B:
        """Register an async function without parameters that runs while the hub runs.

        It is called when the hub is entered, and cancelled when it is left, after its sessions have
        ended. It may return before. If it fails, the hub ends: sessions with 3001, and leaving the
        hub raises what it raised, in an `ExceptionGroup`.

        Raises:
            RuntimeError: The hub is running.
            TypeError: It is not an async function, or needs arguments.
        """
        if self._entered is not None:
            raise RuntimeError("the hub is running: register background functions before")
        check_background(function)
        self._settings.background.append(function)
        return function

    # What a server does with channels.

    async def publish(
        self,
        channel: str,
        message: Any,
        *,
        tags: Mapping[str, str] | None = None,
        history: bool = True,
        delta: bool | None = None,
        idempotency_key: str = "",
        version: int = 0,
        version_epoch: str = "",
    ) -> Position:
        """Publish to a channel.

        Args:
            message: Of the channel's type; or `msgspec.Raw`, JSON text as it is.
            tags: For subscribers that filter by tags.
            history: Whether it goes into the channel's history, if there is one.
            delta: Whether subscribers may get patches. `None`: as the channel's option says.
            idempotency_key: A second publication with the same key within 5 minutes is dropped,
                and the first one's position returned.
            version: Dropped unless above that of the last publication with a version; needs
                history. 0: none.
            version_epoch: Versions of different epochs do not compare.

        Returns:
            Where the channel's stream stands after it; offset 0 without history.

        Raises:
            UnknownChannel: No pattern matches.
            TypeError: The message is not JSON.
            PayloadError: It is `msgspec.Raw`, and not JSON.
            ValueError: There is a version, and no history to compare it with.
            RuntimeError: The hub is not running.
            BrokerError: The broker failed.

        Cancelled: it may have been published.
        """
        declaration = self._declaration(channel)
        if version and not (history and declaration.options.history):
            raise ValueError(f"version={version} needs history, to compare it with the last one")
        return await self._node.publish(
            channel,
            declaration,
            declaration.payloads.encode(message),
            tags=dict(tags or NO_TAGS),
            delta=delta,
            history=history,
            idempotency_key=idempotency_key,
            version=version,
            version_epoch=version_epoch,
        )

    async def broadcast(
        self,
        channels: Iterable[str],
        message: Any,
        *,
        tags: Mapping[str, str] | None = None,
        idempotency_key: str = "",
    ) -> list[Position]:
        """Publish the same message to several channels.

        Nothing is published if a channel is unknown or the message does not fit one.

        Returns:
            The position in each channel, in their order.

        Raises:
            UnknownChannel: No pattern matches one of the channels.
            TypeError: The message is not JSON.
            PayloadError: It is `msgspec.Raw`, and not JSON.
            RuntimeError: The hub is not running.
            BrokerError: The broker failed. The message may be in some channels and not in others;
                call again with the same `idempotency_key`.
        """
        targets = [(channel, self._declaration(channel)) for channel in channels]
        payloads = [declaration.payloads.encode(message) for _, declaration in targets]
        return [
            await self._node.publish(
                channel,
                declaration,
                data,
                tags=dict(tags or NO_TAGS),
                idempotency_key=idempotency_key,
            )
            for (channel, declaration), data in zip(targets, payloads, strict=True)
        ]

    async def history(
        self,
        channel: str,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> History:
        """Read a channel's history.

        Args:
            since: Only what came after it; what came before it if `reverse`. Page on with the
                position of the last publication.
            limit: Most publications; 0: only where the stream stands. `None`: all.
            reverse: Newest first.

        Raises:
            UnknownChannel: No pattern matches.
            CommandError: 108, the channel has no history; 112, `since` is of another epoch.
        """
        options = self._declaration(channel).options
        if not options.history:
            raise CommandError(ErrorCode.NOT_AVAILABLE, f"{channel!r} has no history")
        page = await self._node.broker.history(
            channel, since=since, limit=limit, reverse=reverse, meta_ttl=options.meta_ttl
        )
        if since is not None and since.epoch and since.epoch != page.position.epoch:
            raise CommandError(ErrorCode.UNRECOVERABLE_POSITION)
        return page

    async def remove_history(self, channel: str) -> None:
        """Drop a channel's publications; its epoch and offset stay.

        Raises:
            UnknownChannel: No pattern matches.
        """
        self._declaration(channel)
        await self._node.broker.remove_history(channel)

    async def presence(self, channel: str) -> Mapping[str, ClientInfo]:
        """Return who is subscribed to a channel, by connection id.

        Raises:
            UnknownChannel: No pattern matches.
            CommandError: 108, the channel has no presence.
        """
        self._check_presence(channel)
        return await self._node.broker.presence(channel)

    async def presence_stats(self, channel: str) -> PresenceStats:
        """Count who is subscribed to a channel.

        Raises:
            UnknownChannel: No pattern matches.
            CommandError: 108, the channel has no presence.
        """
        self._check_presence(channel)
        return await self._node.broker.presence_stats(channel)

    def subscribe(self, channel: str, *, since: Position | None = None) -> Listening:
        """Subscribe in this process.

            async with hub.subscribe("chat:lobby") as publications:
                async for publication in publications: ...

        Args:
            since: Begin after this position, with what the history has. `None`: with what is
                published from now on.

        Returns:
            An asynchronous context manager, whose value iterates over publications until the hub
            stops. A subscriber that falls behind by `Limits.in_process` is ended by
            `PositionLost`, and so is one that has missed something.

        Raises:
            UnknownChannel: No pattern matches.
            ValueError: `since` is given, and the channel has no history.
        """
        declaration, _ = self._node.find(channel)
        if since is not None and not declaration.options.history:
            raise ValueError(f"since needs history, which {channel!r} does not have")
        return Listening(self._node, channel, declaration, since)

    # What a server does with clients. Each acts on all nodes.

    async def add_subscription(
        self,
        channel: str,
        *,
        user: str | None = None,
        client: str | None = None,
        grant: Grant | None = None,
        since: Position | None = None,
    ) -> None:
        """Subscribe connected clients to a channel from the server's side.

        Nothing happens to a client that is subscribed already. One that has too many channels
        stays as it is, and a warning is logged. All nodes are told; this does not wait until the
        clients are subscribed, so without `since` what is published meanwhile may be missed.

        Args:
            user: All connections of the user.
            client: The connection with this id; of the user, if both are given.
            grant: What the subscriptions are granted.
            since: Deliver what came after it first.

        Raises:
            UnknownChannel: No pattern matches.
            ValueError: Neither a user nor a client is given.
        """
        self._declaration(channel)
        _check_target(user, client)
        grant = grant or Grant()
        await self._send(
            SubscribeClients(
                user=user,
                client=client,
                channel=channel,
                info=grant.info,
                data=grant.data,
                expires_at=grant.expires_at,
                override=grant.override,
                offset=None if since is None else since.offset,
                epoch="" if since is None else since.epoch,
            )
        )

    async def unsubscribe(
        self,
        channel: str = "",
        *,
        user: str | None = None,
        client: str | None = None,
        code: int = UnsubscribeCode.SERVER_UNSUBSCRIBED,
        reason: str | None = None,
    ) -> None:
        """End subscriptions. Clients do not subscribe again by themselves, unless the code is 2500
        or more.

        Args:
            channel: Empty: all channels.
            user: All connections of the user.
            client: The connection with this id; of the user, if both are given.
            code: From 2000 to 2999 (`hubbub.errors.UnsubscribeCode`).
            reason: `None`: the text that belongs to the code.

        Raises:
            ValueError: Neither a user nor a client is given, or the code has no text or is out of
                range.
        """  # noqa: D205 - one sentence
        _check_target(user, client)
        if not 2000 <= code <= 2999:
            raise ValueError(f"an unsubscribe code is 2000 to 2999, not {code}")
        text = UnsubscribeCode.reason_of(code) if reason is None else reason
        if not text:
            raise ValueError(f"unsubscribe code {code} needs a reason: SDKs index it")
        await self._send(
            UnsubscribeClients(user=user, client=client, channel=channel, code=code, reason=text)
        )

    async def disconnect(
        self,
        *,
        user: str | None = None,
        client: str | None = None,
        code: int = DisconnectCode.FORCE_DISCONNECT,
        reason: str | None = None,
        spare: Iterable[str] = (),
    ) -> None:
        """End sessions.

        Args:
            user: All connections of the user.
            client: The connection with this id; of the user, if both are given.
            code: See `hubbub.Disconnect`. After 3503, the default, SDKs do not reconnect.
            reason: `None`: the text that belongs to the code.
            spare: Ids of connections that stay.

        Raises:
            ValueError: Neither a user nor a client is given, or the code or reason cannot be sent.
        """
        _check_target(user, client)
        sent = Disconnect(code, reason)
        await self._send(
            DisconnectClients(
                user=user, client=client, code=sent.code, reason=sent.reason, spare=tuple(spare)
            )
        )

    async def refresh(
        self,
        *,
        user: str | None = None,
        client: str | None = None,
        expires_at: float | None = None,
        info: Any = None,
    ) -> None:
        """Change when connections expire.

        Args:
            user: All connections of the user.
            client: The connection with this id; of the user, if both are given.
            expires_at: Unix time in seconds; `None`: never. In the past: they end with 3005.
            info: What others see of the connections from now on; `None`: as before.

        Raises:
            ValueError: Neither a user nor a client is given.
        """
        _check_target(user, client)
        if expires_at is not None and expires_at <= self._node.clock.time():
            code = DisconnectCode.CONNECTION_EXPIRED
            await self._send(
                DisconnectClients(user=user, client=client, code=code, reason=code.reason)
            )
            return
        encoded = None if info is None else msgspec.json.encode(info)
        await self._send(
            RefreshClients(user=user, client=client, expires_at=expires_at, info=encoded)
        )

    def clients(self, *, user: str | None = None) -> list[Client]:
        """Return the clients that are connected to this node: all, or those of a user."""
        return [session.client for session in self._node.registry.find(user)]

    def channels(self) -> dict[str, int]:
        """Return the channels with subscribed clients on this node, and how many there are."""
        return {
            channel: len(group.subscribers)
            for channel, group in self._node.registry.groups.items()
            if group.subscribers
        }

    # What there is on all nodes.

    def nodes(self) -> list[NodeInfo]:
        """Return the nodes that share the broker: this one first, then others by name.

        What is known of the others is up to 5 seconds old. A node that leaves is gone at once, one
        that is lost after 15 seconds without a sign of life. A node that has just been entered has
        not heard of all others yet.

        Raises:
            RuntimeError: The hub is not running.
        """
        self._check_running()
        return self._node.cluster.nodes()

    async def cluster_channels(
        self,
        pattern: str = "*",
        *,
        timeout: float = 2.0,  # noqa: ASYNC109 - what came until then is the answer
    ) -> ClusterChannels:
        """Ask all nodes for the channels with subscribed clients, and how many there are.

        Each node answers to every node, so this is for operators and not for every request: its
        cost grows with the number of channels times that of nodes. Nodes count one after another
        while clients come and go.

        Args:
            pattern: Of the names: `*` is any text, `?` any character, `[ab]` one of these.
            timeout: Seconds to wait for the answers.

        Returns:
            What came until then, and which nodes that are known were silent: their clients are
            not counted.

        Raises:
            RuntimeError: The hub is not running.
            BrokerError: The question could not be sent.
        """
        self._check_running()
        return await self._node.cluster.channels(pattern, timeout)

    @property
    def deliveries(self) -> int:
        """Publications, joins and leaves sent so far, counted for each subscriber."""
        return self._node.tally.deliveries

    async def _send(
        self,
        message: ClientsMessage,
    ) -> None:
        self._check_running()
        await self._node.broker.send_control(encode(message))

    def _declaration(self, channel: str) -> Channel[Any]:
        self._check_running()
        return self._node.find(channel)[0]

    def _check_personal(self) -> None:
        personal = self._node.personal
        if personal is not None:
            try:
                self._node.find(personal.replace("{user}", "1"))
            except CommandError as exc:
                raise ConfigError("personal", f"{personal!r} is no declared channel") from exc

    def _check_presence(self, channel: str) -> None:
        if not self._declaration(channel).options.presence:
            raise CommandError(ErrorCode.NOT_AVAILABLE, f"{channel!r} has no presence")

    def _check_running(self) -> None:
        if self._entered is None:
            raise RuntimeError("the hub is not running: serve it, or enter it by `async with`")


def _check_target(user: str | None, client: str | None) -> None:
    if user is None and client is None:
        raise ValueError("whose? give user= or client=")
