"""Clients that subscribe to everything and read nothing: what a hub must not wait for."""

import asyncio
import time
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import msgspec
from websockets.asyncio.client import connect

from hubbub.errors import DisconnectCode
from hubbub.protocol.commands import ConnectRequest, SubscribeRequest
from tests.chaos.node import Node
from tests.chaos.scenario import SETTLE_BOUND, Setting
from tests.hub.stalled import StalledClient

__all__ = ["Slow"]

_CLIENTS = 5


class Slow:
    """Some of them, at one node.

    Args:
        channels: Of `hubbub verify`.

    Attributes:
        setting: Takes what is found out.
    """

    setting: Setting

    def __init__(self, node: Node, channels: int) -> None:
        self._node = node
        self._channels = channels
        self._stack = AsyncExitStack()
        self._began = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def begin(self) -> None:
        """Connect, subscribe, and read no more."""
        self._began = time.monotonic()
        subscribing = [
            SubscribeRequest(channel=f"verify:{number}") for number in range(self._channels)
        ]
        for _ in range(_CLIENTS):
            client = await self._stack.enter_async_context(StalledClient(self._node.address))
            await client.send(ConnectRequest(), *subscribing)

    async def end(self) -> None:
        """Wait until the node has ended all of them as slow."""
        slow = f"{DisconnectCode.SLOW.value}"
        endings: dict[str, int] = {}
        while time.monotonic() < self._began + SETTLE_BOUND:
            endings = await self._endings()
            if endings.get(slow, 0) >= _CLIENTS:
                break
            await asyncio.sleep(0.1)
        self.setting.facts["ended as slow after"] = round(time.monotonic() - self._began, 1)
        # Nobody else has been ended, either.
        if endings != {slow: _CLIENTS}:
            self.setting.problems.append(f"sessions were ended with {endings}")

    async def _endings(self) -> dict[str, int]:
        """Ask the node by which codes it has ended sessions, but for clients that went away."""
        commands = b'{"id":1,"connect":{}}\n{"id":2,"rpc":{"method":"endings"}}'
        async with connect(self._node.url, proxy=None, compression=None) as connection:
            await connection.send(commands, text=True)
            async for message in connection:
                assert isinstance(message, str)
                for line in message.splitlines():
                    reply = msgspec.json.decode(line)
                    if reply.get("id") == 2:
                        endings: dict[str, int] = reply["rpc"].get("data", {})
                        endings.pop(f"{DisconnectCode.CONNECTION_CLOSED.value}", None)
                        return endings
        raise AssertionError(f"{self._node.program} gave no answer")
