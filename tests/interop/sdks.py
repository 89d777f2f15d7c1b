"""The official SDKs on a lead: scenarios are written once, for clients of all of them.

A client does what it is told and keeps what its SDK reports. Payloads are JSON values here whatever
the wire format: as a user of Protobuf would, the SDK is given the bytes of their text.
"""

import asyncio
import re
from collections import defaultdict, deque
from collections.abc import Coroutine
from typing import Any, Protocol

import pytest

from tests.timing import MS

__all__ = ["WAIT_TIMEOUT", "Event", "Sdk", "SdkClient", "SdkError", "connect", "refused"]

WAIT_TIMEOUT = 10_000 * MS
"""Seconds for what must happen; nothing that passes takes a tenth of it."""

Event = dict[str, Any]
"""What an SDK reported; `event` and `channel` say what and where."""


class SdkError(Exception):
    """A call of an SDK failed: "103: permission denied"."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")


class Lead(Protocol):
    """Has one client of an SDK do something, by the name of a method, and returns its result."""

    def __call__(self, do: str, **arguments: Any) -> Coroutine[Any, Any, Any]: ...


class SdkClient:
    """One client of an SDK.

    Events are named as in the SDKs: `connecting`, `connected`, `disconnected`, `error`, `message`
    of the client; `subscribing`, `subscribed`, `unsubscribed`, `publication`, `join`, `leave`,
    `error` of a subscription; the same after `server_` of a server-side subscription; `get_token`
    and `get_state` are calls of the functions that were given as `tokens` and `states`.

    Attributes:
        log: All events, in their order.
    """

    def __init__(self, lead: Lead) -> None:
        self.lead = lead
        self.log: list[Event] = []
        self._unread: defaultdict[tuple[str, str], deque[Event]] = defaultdict(deque)
        self._heard = asyncio.Event()

    def hear(self, event: str, channel: str = "", **details: Any) -> None:
        """Take what the SDK reports."""
        heard = {"event": event, "channel": channel, **details}
        self.log.append(heard)
        self._unread[event, channel].append(heard)
        self._heard.set()

    async def next(self, event: str, channel: str = "") -> Event:
        """Wait for an event of a channel, or without one of the client; each is returned once."""
        unread = self._unread[event, channel]
        try:
            async with asyncio.timeout(WAIT_TIMEOUT):
                while not unread:
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            raise AssertionError(f"no {event} in {channel!r}; there was {self.log}") from None
        return unread.popleft()

    async def take(self, number: int, channel: str, event: str = "publication") -> list[Any]:
        """Wait for some publications of a channel, and return their payloads."""
        return [(await self.next(event, channel))["data"] for _ in range(number)]

    def heard(self, event: str, channel: str = "") -> list[Event]:
        """Return all such events so far, whether returned by `next` or not."""
        return [one for one in self.log if (one["event"], one["channel"]) == (event, channel)]

    def unread(self, event: str, channel: str = "") -> list[Event]:
        """Return the events that `next` would return."""
        return list(self._unread[event, channel])

    async def connect(self) -> Event:
        """Connect, and wait until it is connected."""
        await self.lead("connect")
        await self.next("connecting")
        return await self.next("connected")

    async def subscribe(self, channel: str, **options: Any) -> Event:
        """Subscribe, and wait until it is subscribed; options are those of `Sdk.open`."""
        await self.begin(channel, **options)
        return await self.next("subscribed", channel)

    async def begin(self, channel: str, **options: Any) -> None:
        """Begin to subscribe.

        Args:
            channel: Not subscribed by this client before.
            options: `token`, `recoverable`, `positioned`, `join_leave`, `delta`, `tags_filter` as
                in the SDKs; `tokens` and `states` are what the functions of those names return,
                one after the other.
        """
        await self.lead("subscription", channel=channel, **options)
        await self.again(channel)

    async def again(self, channel: str) -> None:
        """Begin to subscribe to a channel that was subscribed before."""
        await self.lead("subscribe", channel=channel)
        await self.next("subscribing", channel)

    async def unsubscribe(self, channel: str) -> Event:
        """Unsubscribe, and wait until the SDK says so."""
        await self.lead("unsubscribe", channel=channel)
        return await self.next("unsubscribed", channel)

    async def publish(self, channel: str, data: Any) -> None:
        """Publish, and wait for the answer."""
        await self.lead("publish", channel=channel, data=data)

    async def rpc(self, method: str, data: Any) -> Any:
        """Call a method of the server."""
        return await self.lead("rpc", method=method, data=data)


class Sdk(Protocol):
    """Makes clients of one SDK that speak one wire format."""

    async def open(self, url: str, **options: Any) -> SdkClient:
        """Make a client; `token` and `tokens` are options, as in `SdkClient.begin`."""
        ...

    async def close(self) -> None:
        """Disconnect all clients."""
        ...


async def connect(sdk: Sdk, url: str, **options: Any) -> SdkClient:
    """Make a client, and wait until it is connected."""
    client = await sdk.open(url, **options)
    await client.connect()
    return client


def refused(code: int, text: str = "") -> pytest.RaisesExc[SdkError]:
    """Expect a call of an SDK to be refused with a code, and a message with some text in it."""
    return pytest.raises(SdkError, match=rf"^{code}: .*{re.escape(text)}")
