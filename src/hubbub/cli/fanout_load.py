"""Open-loop fan-out load on a server of the client protocol: so many publications a second."""

import asyncio
import secrets
import ssl
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from hubbub.cli.address import ServerAddress
from hubbub.cli.descriptors import allow_descriptors
from hubbub.cli.dialing import OPEN_TIMEOUT, dialing
from hubbub.cli.failure import Failure
from hubbub.cli.fanout_client import ClientCodec, FanoutClient, FanoutRun
from hubbub.cli.latencies import Latencies
from hubbub.errors import ErrorCode
from hubbub.protocol.commands import ConnectRequest, Request, SubscribeRequest
from hubbub.protocol.replies import Reply
from hubbub.protocol.values import Error

__all__ = ["FanoutLoad", "FanoutResult"]

# More at once would only overflow the server's backlog.
_OPENING_AT_ONCE: Final = 64

_CLOSE_TIMEOUT: Final = 2.0
_TICK: Final = 0.1

# How often publications that are due are sent; timers of the loop are no finer.
_PACE: Final = 0.001


@dataclass(frozen=True, slots=True)
class FanoutResult:
    """What a run measured, and which faults it found.

    Attributes:
        duration: From the first publication to the last delivery, in seconds.
        published: Publications that were sent.
        publishing: How long that took, in seconds.
        deliveries: Publications that came, each once per subscriber.
        latencies: From publishing to delivery.
        lost: Publications that did not come, per subscriber, on connections that stood.
        duplicates: Publications that came again.
        reordered: Publications that came after a later one of the same publisher.
        errors: Error replies to publish commands, by code and message.
        endings: Connections and subscriptions that the server ended, by what it did.
        load_use: Share of one core that this process used; near 1, it measured itself.
    """

    duration: float
    published: int
    publishing: float
    deliveries: int
    latencies: Latencies
    lost: int
    duplicates: int
    reordered: int
    errors: Counter[str]
    endings: Counter[str]
    load_use: float

    @property
    def is_faultless(self) -> bool:
        """Whether every publication came once and in order, and nothing ended or was refused."""
        faults = (self.lost, self.duplicates, self.reordered, self.errors, self.endings)
        return not any(faults)


@dataclass(frozen=True, slots=True)
class FanoutLoad:
    """A run to be made.

    Attributes:
        address: The server.
        tls: How to speak TLS with it; `None`: no TLS.
        codec: The wire format.
        channel: Where everything is published.
        subscribers: How many.
        publishers: How many, besides the subscribers.
        rate: Publications per second, of all publishers together.
        size: Of a payload in bytes.
        seconds: How long to publish.
        token: Connection JWT; empty: none.
        answer_timeout: Longest time for the reply to a command, in seconds.
        drain_timeout: How long the last deliveries may be awaited without any, in seconds.
    """

    address: ServerAddress
    tls: ssl.SSLContext | None
    codec: ClientCodec
    channel: str
    subscribers: int
    publishers: int
    rate: float
    size: int
    seconds: float
    token: str = ""
    answer_timeout: float = 10.0
    drain_timeout: float = 2.0

    async def run(self, on_progress: Callable[[float, int], None]) -> FanoutResult:
        """Open all connections, subscribe, publish, await what was published, close.

        Args:
            on_progress: Called ten times a second with the seconds gone and the deliveries so far.

        Raises:
            Failure: The server cannot be reached, does not speak the client protocol, or refuses
                to be subscribed or published to.
        """
        allow_descriptors(
            self.subscribers + self.publishers,
            f"--subscribers {self.subscribers} --publishers {self.publishers}",
        )
        shared = FanoutRun(self.codec, self.channel, self.size, secrets.token_hex(4).encode())
        clients: list[FanoutClient] = []
        try:
            subscribers = await self._open(shared, clients, self.subscribers, self._subscribe)
            publishers = await self._open(shared, clients, self.publishers, _nothing)
            for number, publisher in enumerate(publishers):
                await self._publish_first(publisher, number)
            await self._drain(shared, subscribers, publishers)
            result = await self._measure(shared, subscribers, publishers, on_progress)
            await _close(clients)
        finally:
            for client in clients:
                client.abort()
        return result

    async def _open(
        self,
        shared: FanoutRun,
        clients: list[FanoutClient],
        count: int,
        prepare: Callable[[FanoutClient], Coroutine[None, None, None]],
    ) -> list[FanoutClient]:
        """Open so many connections; the list of all clients gets each as soon as it exists."""
        slots = asyncio.Semaphore(_OPENING_AT_ONCE)

        async def open_one() -> FanoutClient:
            async with slots:
                client = await self._connect(shared, clients)
                await prepare(client)
                return client

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(open_one()) for _ in range(count)]
        except ExceptionGroup as errors:
            # The others are the same, or were cancelled for it.
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _connect(self, shared: FanoutRun, clients: list[FanoutClient]) -> FanoutClient:
        uri, location = self.address.uri, self.address.location
        loop = asyncio.get_running_loop()
        with dialing(self.address):
            async with asyncio.timeout(OPEN_TIMEOUT):
                _, client = await loop.create_connection(
                    lambda: FanoutClient(uri, shared, location), uri.host, uri.port, ssl=self.tls
                )
                clients.append(client)
                await client.opened
        connect = ConnectRequest(token=self.token, name="hubbub")
        reply = await self._request(client, "connect", connect)
        if reply.error is not None:
            raise Failure(f"{location} refuses to connect: {_said(reply.error)}")
        if reply.connect is None:
            raise Failure(f"{location} does not speak the Centrifuge client protocol")
        return client

    async def _subscribe(self, client: FanoutClient) -> None:
        subscribe = SubscribeRequest(channel=self.channel)
        reply = await self._request(client, "subscribe", subscribe)
        if reply.error is not None:
            raise Failure(self._refused("subscribing to", reply.error))

    async def _publish_first(self, client: FanoutClient, number: int) -> None:
        reply = await self._request(client, "publish", client.next_publication(number))
        if reply.error is not None:
            raise Failure(self._refused("publishing to", reply.error))

    async def _request(self, client: FanoutClient, name: str, request: Request) -> Reply:
        try:
            async with asyncio.timeout(self.answer_timeout):
                return await client.request(name, request)
        except TimeoutError as exc:
            raise Failure(
                f"{self.address.location} did not answer a {name} command"
                f" within {self.answer_timeout:g} s"
            ) from exc

    def _refused(self, doing: str, error: Error) -> str:
        location = self.address.location
        if error.code == ErrorCode.UNKNOWN_CHANNEL:
            return f"{location} has no channel '{self.channel}': {_said(error)}"
        if error.code == ErrorCode.PERMISSION_DENIED:
            return f"{location} does not permit {doing} channel '{self.channel}': {_said(error)}"
        return f"{location} refuses {doing} channel '{self.channel}': {_said(error)}"

    async def _measure(
        self,
        shared: FanoutRun,
        subscribers: Sequence[FanoutClient],
        publishers: Sequence[FanoutClient],
        on_progress: Callable[[float, int], None],
    ) -> FanoutResult:
        shared.measuring = True
        before = shared.delivered
        sent_before = sum(publisher.published for publisher in publishers)
        begin, cpu = perf_counter(), time.process_time()
        await self._publish(shared, publishers, on_progress)
        publishing = perf_counter() - begin
        load_use = (time.process_time() - cpu) / publishing
        await self._drain(shared, subscribers, publishers)
        published = [publisher.published for publisher in publishers]
        counts = [
            (count, None if subscriber.ended else published[number])
            for subscriber in subscribers
            for number in range(len(publishers))
            for count in [subscriber.deliveries[number]]
        ]
        return FanoutResult(
            duration=max(publishing, shared.delivered_at - begin),
            published=sum(published) - sent_before,
            publishing=publishing,
            deliveries=shared.delivered - before,
            latencies=shared.latencies,
            lost=sum(count.lost(total) for count, total in counts),
            duplicates=sum(count.duplicates for count, _ in counts),
            reordered=sum(count.reordered for count, _ in counts),
            errors=shared.errors,
            endings=shared.endings,
            load_use=load_use,
        )

    async def _publish(
        self,
        shared: FanoutRun,
        publishers: Sequence[FanoutClient],
        on_progress: Callable[[float, int], None],
    ) -> None:
        """Publish in turn, evenly; what cannot be sent when it is due is left out."""
        begin = perf_counter()
        turns = 0
        told = 0.0
        while (elapsed := perf_counter() - begin) < self.seconds:
            for turn in range(turns, int(elapsed * self.rate) + 1):
                number = turn % len(publishers)
                publishers[number].publish(number)
            turns = int(elapsed * self.rate) + 1
            if elapsed - told >= _TICK:
                told = elapsed
                on_progress(elapsed, shared.delivered)
            if all(publisher.ended for publisher in publishers):
                break
            due = begin + turns / self.rate
            await asyncio.sleep(min(_TICK, max(_PACE, due - perf_counter())))

    async def _drain(
        self,
        shared: FanoutRun,
        subscribers: Sequence[FanoutClient],
        publishers: Sequence[FanoutClient],
    ) -> None:
        """Wait until everything came, or nothing comes any more."""
        published = [publisher.published for publisher in publishers]

        def missing() -> bool:
            return any(
                subscriber.deliveries[number].lost(count)
                for subscriber in subscribers
                if not subscriber.ended
                for number, count in enumerate(published)
            )

        delivered, since = shared.delivered, perf_counter()
        # One tick in any case: what comes twice comes last.
        await asyncio.sleep(_TICK)
        while missing() and perf_counter() - since < self.drain_timeout:
            await asyncio.sleep(_TICK)
            if shared.delivered != delivered:
                delivered, since = shared.delivered, perf_counter()


async def _nothing(client: FanoutClient) -> None:
    """Publishers need no preparation: whoever may publish need not be subscribed."""


async def _close(clients: Sequence[FanoutClient]) -> None:
    for client in clients:
        client.close()
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            for client in clients:
                await client.closed.wait()
    except TimeoutError:
        pass  # measured is measured; the rest is aborted


def _said(error: Error) -> str:
    return f"{error.code} {error.message}"
