"""Which channels the broker delivers to this node: those somebody here is subscribed to."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from hubbub.brokers.base import Broker
from hubbub.errors import BrokerError

__all__ = ["Links"]


class Links:
    """Subscribes and unsubscribes channels at the broker, one batch at a time.

    Args:
        wanted: Whether anybody is subscribed to a channel.
    """

    def __init__(self, broker: Broker, wanted: Callable[[str], bool]) -> None:
        self._broker = broker
        self._wanted = wanted
        self._linked: set[str] = set()
        # Subscribing failed, and may have happened all the same.
        self._unsure: set[str] = set()
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._idle: set[str] = set()
        self._work = asyncio.Event()
        self._ended = False

    @property
    def linked(self) -> frozenset[str]:
        """Channels that the broker delivers."""
        return frozenset(self._linked)

    async def link(self, channel: str) -> None:
        """Return when nothing published in a channel from now on is missed.

        Raises:
            BrokerError: The broker failed.
        """
        if channel in self._linked:
            self._idle.discard(channel)
            return
        if self._broker.local:
            await self._broker.subscribe([channel])
            self._linked.add(channel)
            return
        if self._ended:
            raise BrokerError("hub", "stopped")
        waiting = self._waiting.get(channel)
        if waiting is None:
            waiting = self._waiting[channel] = asyncio.get_running_loop().create_future()
            self._work.set()
        await asyncio.shield(waiting)

    async def unlink(self, channel: str) -> None:
        """Take note that nobody is subscribed to a channel any more."""
        if self._wanted(channel) or not (channel in self._linked or channel in self._unsure):
            return
        if self._broker.local:
            self._linked.discard(channel)
            await self._broker.unsubscribe([channel])
        else:
            self._idle.add(channel)
            self._work.set()

    async def run(self) -> None:
        """Do what is to do at a broker that is not local, until cancelled."""
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                await self._do()
        finally:
            self._ended = True
            _fail(self._waiting.values(), BrokerError("hub", "stopped"))

    async def _do(self) -> None:
        waiting, self._waiting = self._waiting, {}
        if waiting:
            await self._subscribe(waiting)
        idle = {channel for channel in self._idle if not self._wanted(channel)}
        self._idle.clear()
        if idle:
            # Before the call: who comes meanwhile subscribes again, after it.
            self._linked -= idle
            self._unsure -= idle
            # If it fails: what still comes for these channels finds nobody here.
            with contextlib.suppress(BrokerError):
                await self._broker.unsubscribe(idle)

    async def _subscribe(self, waiting: dict[str, asyncio.Future[None]]) -> None:
        try:
            await self._broker.subscribe(list(waiting))
        except BaseException as exc:
            self._unsure.update(waiting)
            self._idle.update(waiting)
            stopped = BrokerError("hub", "stopped")
            _fail(waiting.values(), exc if isinstance(exc, Exception) else stopped)
            if not isinstance(exc, Exception):
                raise
        else:
            self._linked.update(waiting)
            self._unsure.difference_update(waiting)
            # Who waited may be gone; `unlink` could not know that it would be linked.
            self._idle.update(waiting)
            for future in waiting.values():
                if not future.done():
                    future.set_result(None)


def _fail(waiting: Iterable[asyncio.Future[None]], exc: Exception) -> None:
    for future in waiting:
        if not future.done():
            future.set_exception(exc)
            future.exception()  # whoever waited may be gone
