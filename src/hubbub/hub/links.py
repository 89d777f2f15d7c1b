"""Which channels the broker delivers to this node: those somebody here is subscribed to."""

import asyncio
from collections.abc import Callable

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
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._idle: set[str] = set()
        self._work = asyncio.Event()

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
        waiting = self._waiting.get(channel)
        if waiting is None:
            waiting = self._waiting[channel] = asyncio.get_running_loop().create_future()
            self._work.set()
        await asyncio.shield(waiting)

    async def unlink(self, channel: str) -> None:
        """Take note that nobody is subscribed to a channel any more."""
        if self._wanted(channel) or channel not in self._linked:
            return
        if self._broker.local:
            self._linked.discard(channel)
            await self._broker.unsubscribe([channel])
        else:
            self._idle.add(channel)
            self._work.set()

    async def run(self) -> None:
        """Do what is to do at a broker that is not local, until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            waiting, self._waiting = self._waiting, {}
            if waiting:
                await self._subscribe(waiting)
            idle = {channel for channel in self._idle if not self._wanted(channel)}
            self._idle.clear()
            if idle:
                # Before the call: who comes meanwhile subscribes again, after it.
                self._linked -= idle
                try:
                    await self._broker.unsubscribe(idle)
                except BrokerError:
                    # What still comes for these channels finds nobody here.
                    continue

    async def _subscribe(self, waiting: dict[str, asyncio.Future[None]]) -> None:
        try:
            await self._broker.subscribe(list(waiting))
        except BaseException as exc:
            for future in waiting.values():
                if not future.done():
                    future.set_exception(
                        exc if isinstance(exc, Exception) else BrokerError("hub", "stopped")
                    )
                    future.exception()  # whoever waited may be gone
            if not isinstance(exc, Exception):
                raise
        else:
            self._linked.update(waiting)
            for future in waiting.values():
                if not future.done():
                    future.set_result(None)
