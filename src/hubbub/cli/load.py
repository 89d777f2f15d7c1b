"""Closed-loop echo load on a WebSocket server: as fast as the server answers, never faster."""

import asyncio
import random
import ssl
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from hubbub.cli.address import ServerAddress
from hubbub.cli.descriptors import allow_descriptors
from hubbub.cli.dialing import OPEN_TIMEOUT, dialing
from hubbub.cli.echo_client import EchoClient, Round
from hubbub.cli.failure import Failure
from hubbub.cli.latencies import Latencies

__all__ = ["ANSWER_TIMEOUT", "EchoLoad", "EchoResult"]

ANSWER_TIMEOUT: Final = 5.0
"""Default of the longest time that one echo may take, in seconds."""

# More at once would only overflow the server's backlog.
_OPENING_AT_ONCE: Final = 64

_CLOSE_TIMEOUT: Final = 2.0
_TICK: Final = 0.1


@dataclass(frozen=True, slots=True)
class EchoResult:
    """What a run measured; durations in seconds."""

    duration: float
    messages: int
    latencies: Latencies


@dataclass(frozen=True, slots=True)
class EchoLoad:
    """A run to be made.

    Attributes:
        address: The server.
        tls: How to speak TLS with it; `None`: no TLS.
        connections: How many, each with one message under way.
        size: Of a message in bytes.
        seconds: How long echoes are counted, after all connections are open.
        answer_timeout: Longest time that one echo may take, in seconds.
    """

    address: ServerAddress
    tls: ssl.SSLContext | None
    connections: int
    size: int
    seconds: float
    answer_timeout: float = ANSWER_TIMEOUT

    async def run(self, on_progress: Callable[[float, int], None]) -> EchoResult:
        """Open all connections, load the server, close them.

        Args:
            on_progress: Called ten times a second with the seconds gone and the echoes so far.

        Raises:
            Failure: The server cannot be reached, does not echo, closes, or falls silent.
        """
        allow_descriptors(self.connections, f"--connections {self.connections}")
        failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def fail(problem: str) -> None:
            if not failed.done():
                failed.set_result(problem)

        shared = Round(_message(self.size), fail)
        clients: list[EchoClient] = []
        try:
            await self._open(shared, clients)
            duration = await self._measure(shared, clients, failed, on_progress)
            await _close(clients)
        finally:
            for client in clients:
                client.abort()
        return EchoResult(duration, shared.latencies.total(), shared.latencies)

    async def _open(self, shared: Round, clients: list[EchoClient]) -> None:
        slots = asyncio.Semaphore(_OPENING_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.connections):
                    group.create_task(self._open_one(shared, clients, slots))
        except ExceptionGroup as errors:
            # The others are the same, or were cancelled for it.
            raise errors.exceptions[0] from None

    async def _open_one(
        self, shared: Round, clients: list[EchoClient], slots: asyncio.Semaphore
    ) -> None:
        uri = self.address.uri
        loop = asyncio.get_running_loop()
        async with slots:
            with dialing(self.address):
                async with asyncio.timeout(OPEN_TIMEOUT):
                    _, client = await loop.create_connection(
                        lambda: EchoClient(uri, shared), uri.host, uri.port, ssl=self.tls
                    )
                    clients.append(client)
                    await client.opened

    async def _measure(
        self,
        shared: Round,
        clients: Sequence[EchoClient],
        failed: asyncio.Future[str],
        on_progress: Callable[[float, int], None],
    ) -> float:
        shared.running = True
        begin = perf_counter()
        for client in clients:
            client.start()
        elapsed = 0.0
        # Longer than asked for if a connection has not had a single echo by then: either it gets
        # one, or the server is found out to be silent.
        while elapsed < self.seconds or not all(client.echoes for client in clients):
            await asyncio.wait([failed], timeout=min(_TICK, max(0.001, self.seconds - elapsed)))
            if failed.done():
                raise Failure(f"{self.address.location} {failed.result()}")
            self._check_silence(clients)
            elapsed = perf_counter() - begin
            on_progress(elapsed, shared.latencies.total())
        shared.running = False
        return elapsed

    def _check_silence(self, clients: Sequence[EchoClient]) -> None:
        now = perf_counter()
        silent = sum(now - client.sent_at > self.answer_timeout for client in clients)
        if silent:
            raise Failure(
                f"{self.address.location} does not echo: {silent} of {self.connections} connections"
                f" had no answer within {self.answer_timeout:g} s"
            )


async def _close(clients: Sequence[EchoClient]) -> None:
    for client in clients:
        client.close()
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            for client in clients:
                await client.closed.wait()
    except TimeoutError:
        pass  # measured is measured; the rest is aborted


def _message(size: int) -> bytes:
    letters = string.ascii_letters + string.digits
    return "".join(random.choices(letters, k=size)).encode()  # noqa: S311 - no secret
