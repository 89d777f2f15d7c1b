"""Where a hook of a test waits until it is let through."""

import asyncio

from tests.hub.raw import TIMEOUT

__all__ = ["Gate"]


class Gate:
    """Closed until `open`; all waits are bounded."""

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._opened = asyncio.Event()

    async def __call__(self) -> None:
        """Wait at the gate."""
        self._reached.set()
        async with asyncio.timeout(TIMEOUT):
            await self._opened.wait()

    async def reached(self) -> None:
        """Wait until somebody waits at the gate."""
        async with asyncio.timeout(TIMEOUT):
            await self._reached.wait()

    def open(self) -> None:
        """Let everybody through, from now on."""
        self._opened.set()
