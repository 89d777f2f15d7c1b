"""The SDK for Python, `centrifuge-python` of PyPI, in the event loop of the test."""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import centrifuge  # type: ignore[import-untyped]  # it has no py.typed

from tests.interop.sdks import WAIT_TIMEOUT, SdkClient, SdkError
from tests.timing import MS

__all__ = ["Python"]


class Python:
    """The SDK for Python, in one wire format."""

    def __init__(self, *, protobuf: bool) -> None:
        self.protobuf = protobuf
        self._clients: list[SdkClient] = []

    async def open(self, url: str, **options: Any) -> SdkClient:
        """Make a client."""
        pupil = _PythonClient(url, self.protobuf, **options)
        self._clients.append(pupil.client)
        return pupil.client

    async def close(self) -> None:
        """Disconnect all clients."""
        for client in self._clients:
            await client.lead("disconnect")


class _PythonClient:
    """What `sdk.mjs` has for a client, for the SDK for Python."""

    def __init__(
        self, url: str, protobuf: bool, *, token: str = "", tokens: Sequence[str] | None = None
    ) -> None:
        self.client = SdkClient(self.lead)
        self.protobuf = protobuf
        self.sdk = centrifuge.Client(
            url,
            events=_ClientEvents(self),
            token=token,
            get_token=None if tokens is None else self.giving(tokens, "get_token", ""),
            use_protobuf=protobuf,
            timeout=WAIT_TIMEOUT,
            min_reconnect_delay=1 * MS,
            max_reconnect_delay=50 * MS,
            proxy=None,
        )

        taught = (
            self.connect,
            self.disconnect,
            self.state,
            self.subscription,
            self.subscribe,
            self.unsubscribe,
            self.flicker,
            self.ready,
            self.publish,
            self.burst,
            self.history,
            self.presence,
            self.presence_stats,
            self.rpc,
            self.deltas,
        )
        self.lessons: dict[str, Callable[..., Any]] = {each.__name__: each for each in taught}

    async def lead(self, do: str, **arguments: Any) -> Any:
        try:
            return await self.lessons[do](**arguments)
        except centrifuge.ReplyError as exc:
            raise SdkError(exc.code, exc.message) from exc

    def giving(self, values: Sequence[Any], event: str, channel: str) -> Callable[..., Any]:
        """Return a function that returns one value after the other, and tells of it."""
        left = deque(values)

        async def give(*args: str) -> Any:
            self.client.hear(event, channel)
            if not left:
                raise centrifuge.UnauthorizedError("no more")
            return left.popleft()

        return give

    def encode(self, data: Any) -> Any:
        return json.dumps(data).encode() if self.protobuf else data

    def decode(self, data: Any) -> Any:
        return json.loads(data) if self.protobuf and data else data

    def whose(self, info: centrifuge.ClientInfo | None) -> dict[str, Any] | None:
        return info and {
            "client": info.client,
            "user": info.user,
            "conn_info": self.decode(info.conn_info),
            "chan_info": self.decode(info.chan_info),
        }

    def published(self, publication: centrifuge.Publication) -> dict[str, Any]:
        return {
            "data": self.decode(publication.data),
            "offset": publication.offset,
            "tags": dict(publication.tags),
            "info": self.whose(publication.info),
        }

    def subscribed(
        self, context: centrifuge.SubscribedContext | centrifuge.ServerSubscribedContext
    ) -> dict[str, Any]:
        position = context.stream_position
        return {
            "recoverable": context.recoverable,
            "positioned": context.positioned,
            "was_recovering": context.was_recovering,
            "recovered": context.recovered,
            "position": position and [position.epoch, position.offset],
            "data": self.decode(context.data),
        }

    # What it may be told to do.

    async def connect(self) -> None:
        await self.sdk.connect()

    async def disconnect(self) -> None:
        await self.sdk.disconnect()

    async def state(self) -> str:
        return str(self.sdk.state.value)

    async def subscription(
        self,
        channel: str,
        *,
        tokens: Sequence[str] | None = None,
        states: Sequence[Any] | None = None,
        delta: str | None = None,
        tags_filter: Any = None,
        **options: Any,
    ) -> None:
        positions = [centrifuge.StreamPosition(**state) for state in states or ()]
        self.sdk.new_subscription(
            channel,
            events=_SubscriptionEvents(self, channel),
            get_token=None if tokens is None else self.giving(tokens, "get_token", channel),
            get_state=None if states is None else self.giving(positions, "get_state", channel),
            delta=None if delta is None else centrifuge.DeltaType(delta),
            tags_filter=None if tags_filter is None else centrifuge.FilterNode(tags_filter),
            min_resubscribe_delay=1 * MS,
            max_resubscribe_delay=50 * MS,
            **options,
        )

    async def subscribe(self, channel: str) -> None:
        await self.sdk.subscriptions()[channel].subscribe()

    async def unsubscribe(self, channel: str) -> None:
        await self.sdk.subscriptions()[channel].unsubscribe()

    async def flicker(self, channel: str, times: int) -> None:
        subscription = self.sdk.subscriptions()[channel]
        for _ in range(times):
            await subscription.subscribe()
            await subscription.unsubscribe()
        await subscription.subscribe()

    async def ready(self, channel: str) -> None:
        await self.sdk.subscriptions()[channel].ready()

    async def publish(self, channel: str, data: Any) -> None:
        await self.sdk.publish(channel, self.encode(data))

    async def burst(self, channel: str, data: Sequence[Any]) -> None:
        async with asyncio.TaskGroup() as group:
            for one in data:
                group.create_task(self.publish(channel, one))

    async def history(
        self, channel: str, since: dict[str, Any] | None = None, **options: Any
    ) -> dict[str, Any]:
        position = None if since is None else centrifuge.StreamPosition(**since)
        page = await self.sdk.history(channel, since=position, **options)
        return {
            "publications": [self.published(one) for one in page.publications],
            "position": [page.epoch, page.offset],
        }

    async def presence(self, channel: str) -> dict[str, Any]:
        clients = (await self.sdk.presence(channel)).clients
        return {id_: self.whose(info) for id_, info in clients.items()}

    async def presence_stats(self, channel: str) -> dict[str, int]:
        stats = await self.sdk.presence_stats(channel)
        return {"clients": stats.num_clients, "users": stats.num_users}

    async def rpc(self, method: str, data: Any) -> Any:
        return self.decode((await self.sdk.rpc(method, self.encode(data))).data)

    async def deltas(self, channel: str) -> list[int]:
        deltas = [one["delta"] for one in self.client.heard("publication", channel)]
        return [deltas.count(False), deltas.count(True)]


class _ClientEvents(centrifuge.ClientEventHandler):  # type: ignore[misc]  # untyped
    def __init__(self, pupil: _PythonClient) -> None:
        self.pupil = pupil
        self.hear = pupil.client.hear

    async def on_connecting(self, ctx: centrifuge.ConnectingContext) -> None:
        self.hear("connecting", code=ctx.code, reason=ctx.reason)

    async def on_connected(self, ctx: centrifuge.ConnectedContext) -> None:
        self.hear("connected", id=ctx.client, data=self.pupil.decode(ctx.data))

    async def on_disconnected(self, ctx: centrifuge.DisconnectedContext) -> None:
        self.hear("disconnected", code=ctx.code, reason=ctx.reason)

    async def on_error(self, ctx: centrifuge.ErrorContext) -> None:
        self.hear("error", **_failed(ctx.error))

    async def on_subscribing(self, ctx: centrifuge.ServerSubscribingContext) -> None:
        self.hear("server_subscribing", ctx.channel)

    async def on_subscribed(self, ctx: centrifuge.ServerSubscribedContext) -> None:
        self.hear("server_subscribed", ctx.channel, **self.pupil.subscribed(ctx))

    async def on_unsubscribed(self, ctx: centrifuge.ServerUnsubscribedContext) -> None:
        self.hear("server_unsubscribed", ctx.channel)

    async def on_publication(self, ctx: centrifuge.ServerPublicationContext) -> None:
        self.hear("server_publication", ctx.channel, **self.pupil.published(ctx.pub))

    async def on_join(self, ctx: centrifuge.ServerJoinContext) -> None:
        self.hear("server_join", ctx.channel, info=self.pupil.whose(ctx.info))

    async def on_leave(self, ctx: centrifuge.ServerLeaveContext) -> None:
        self.hear("server_leave", ctx.channel, info=self.pupil.whose(ctx.info))


class _SubscriptionEvents(centrifuge.SubscriptionEventHandler):  # type: ignore[misc]  # untyped
    def __init__(self, pupil: _PythonClient, channel: str) -> None:
        self.pupil = pupil
        self.channel = channel

    def hear(self, event: str, **details: Any) -> None:
        self.pupil.client.hear(event, self.channel, **details)

    async def on_subscribing(self, ctx: centrifuge.SubscribingContext) -> None:
        self.hear("subscribing", code=ctx.code, reason=ctx.reason)

    async def on_subscribed(self, ctx: centrifuge.SubscribedContext) -> None:
        self.hear("subscribed", **self.pupil.subscribed(ctx))

    async def on_unsubscribed(self, ctx: centrifuge.UnsubscribedContext) -> None:
        self.hear("unsubscribed", code=ctx.code, reason=ctx.reason)

    async def on_publication(self, ctx: centrifuge.PublicationContext) -> None:
        self.hear("publication", delta=ctx.pub.delta, **self.pupil.published(ctx.pub))

    async def on_join(self, ctx: centrifuge.JoinContext) -> None:
        self.hear("join", info=self.pupil.whose(ctx.info))

    async def on_leave(self, ctx: centrifuge.LeaveContext) -> None:
        self.hear("leave", info=self.pupil.whose(ctx.info))

    async def on_error(self, ctx: centrifuge.SubscriptionErrorContext) -> None:
        self.hear("error", **_failed(ctx.error))


def _failed(error: Exception) -> dict[str, Any]:
    return {"code": getattr(error, "code", 0), "message": getattr(error, "message", str(error))}
