"""Real SDKs amid the chaos: what their publishers were told, and what their subscribers saw.

They take part beside the clients of `hubbub verify`, and are judged on their own, from the events
that the SDKs report: each witness publishes to one channel and subscribes to all of them.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import centrifuge  # type: ignore[import-untyped]  # it has no py.typed

from tests.chaos.evidence import Evidence, Key
from tests.interop.javascript_sdk import Javascript, Node
from tests.interop.python_sdk import Python
from tests.interop.sdks import Event, Sdk, SdkClient, SdkError
from tests.timing import MS

__all__ = ["Witnesses", "witnesses"]

_HEAR_BOUND = 30_000 * MS
_LOOK = 0.02

# What an SDK says when a publication was not acknowledged; `AssertionError` is Node's silence.
_NOT_ACKNOWLEDGED = (SdkError, centrifuge.CentrifugeError, AssertionError, TimeoutError)


@dataclass(slots=True)
class _Witness:
    name: str
    number: int
    client: SdkClient
    published: int = 0
    collected: int = 0

    @property
    def channel(self) -> str:
        """Where it publishes."""
        return f"sdk:{self.number}"


@dataclass(slots=True)
class Witnesses:
    """The clients of SDKs, and what becomes of what they publish.

    Attributes:
        evidence: What they say.
        refused: Publications that were not acknowledged, by what the SDK said.
        delays: Seconds from publishing to each delivery.
    """

    witnesses: list[_Witness]
    evidence: Evidence = field(default_factory=Evidence)
    refused: Counter[str] = field(default_factory=Counter)
    delays: list[float] = field(default_factory=list)

    @property
    def channels(self) -> list[str]:
        """All that there are."""
        return [each.channel for each in self.witnesses]

    def delay(self, share: float) -> float:
        """Return the seconds that a share of all deliveries took at most."""
        ordered = sorted(self.delays)
        return ordered[math.ceil(share * len(ordered)) - 1] if ordered else 0.0

    async def publish(self, rate: float, over: asyncio.Event) -> None:
        """Publish evenly from each witness, until it is over.

        Args:
            rate: Publications per second of each.
        """
        async with asyncio.TaskGroup() as group:
            for witness in self.witnesses:
                group.create_task(self._publish(witness, rate, over))

    async def hear(self) -> list[str]:
        """Publish until everybody hears everybody, and return who did not hear whom in time."""
        deaf: list[str] = []
        last: dict[str, Key] = {}
        deadline = time.monotonic() + _HEAR_BOUND
        while True:
            async with asyncio.TaskGroup() as group:
                for witness in self.witnesses:
                    if witness.channel not in last:
                        group.create_task(self._say(witness, last))
            self.collect()
            deaf = [
                f"{witness.name} hears nothing in {channel}"
                for witness in self.witnesses
                for channel in self.channels
                if channel not in last
                or not self.evidence.has(witness.name, channel, last[channel])
            ]
            if not deaf or time.monotonic() > deadline:
                return deaf
            await asyncio.sleep(_LOOK)

    async def presence(self, bound: float) -> float:
        """Ask who is there until it is right in every channel; return how long it took.

        Raises:
            AssertionError: It is not right within so many seconds.
        """
        began = time.monotonic()
        while True:
            ids = {each.client.heard("connected")[-1]["id"] for each in self.witnesses}
            seen = {
                each.channel: set(await each.client.lead("presence", channel=each.channel))
                for each in self.witnesses
            }
            elapsed = time.monotonic() - began
            wrong = {channel: found for channel, found in seen.items() if found != ids}
            if not wrong:
                return elapsed
            assert elapsed < bound, f"present are {wrong}, not {ids}"
            await asyncio.sleep(0.2)

    def collect(self) -> None:
        """Take down what the SDKs have reported up to now."""
        for witness in self.witnesses:
            log = witness.client.log
            for event in log[witness.collected :]:
                self._take(witness, event)
            witness.collected = len(log)

    def _take(self, witness: _Witness, event: Event) -> None:
        channel = event["channel"]
        if event["event"] == "subscribed":
            self.evidence.subscribed(
                witness.name,
                channel,
                *event["position"],
                recovered=event["was_recovering"] and event["recovered"],
            )
        elif event["event"] == "publication":
            data = event["data"]
            self.evidence.delivered(
                witness.name, channel, event["offset"], (data["by"], data["number"])
            )
        elif event["event"] == "unsubscribed" or event["event"] == "disconnected":
            self.evidence.ended(witness.name, f"{event['code']} {event['reason']}")

    async def _say(self, witness: _Witness, last: dict[str, Key]) -> None:
        key = await self._publish_one(witness)
        if key is not None:
            last[witness.channel] = key

    async def _publish(self, witness: _Witness, rate: float, over: asyncio.Event) -> None:
        due = time.monotonic()
        while not over.is_set():
            await self._publish_one(witness)
            # What became due meanwhile is not made up for.
            due = max(due + 1 / rate, time.monotonic())
            try:
                async with asyncio.timeout(due - time.monotonic()):
                    await over.wait()
            except TimeoutError:
                pass

    async def _publish_one(self, witness: _Witness) -> Key | None:
        number, witness.published = witness.published, witness.published + 1
        data = {"by": witness.name, "number": number, "at": time.monotonic()}
        try:
            await witness.client.publish(witness.channel, data)
        except _NOT_ACKNOWLEDGED as exc:
            self.refused[str(exc) or type(exc).__name__] += 1
            return None
        key = (witness.name, number)
        self.evidence.acknowledged(witness.channel, key)
        return key

    async def time(self) -> None:
        """Note how long deliveries take, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for witness in self.witnesses:
                for channel in self.channels:
                    group.create_task(self._time(witness, channel))

    async def _time(self, witness: _Witness, channel: str) -> None:
        while True:
            try:
                event = await witness.client.next("publication", channel)
            except AssertionError:
                continue  # nothing has come for long; whether it should have, others judge
            self.delays.append(time.monotonic() - event["data"]["at"])


@asynccontextmanager
async def witnesses(urls: Sequence[str], node: Node | None, count: int) -> AsyncIterator[Witnesses]:
    """Connect and subscribe clients of every SDK in every wire format.

    Args:
        urls: Of the hub's nodes; the clients are spread over them, and stay with theirs.
        node: Of the SDK for JavaScript; `None`: without it.
        count: Clients of each SDK and format.
    """
    sdks: dict[str, Sdk] = {}
    for protobuf in (False, True):
        wire = "protobuf" if protobuf else "json"
        sdks[f"python {wire}"] = Python(protobuf=protobuf)
        if node is not None:
            sdks[f"javascript {wire}"] = Javascript(node, protobuf=protobuf)
    try:
        made: list[_Witness] = []
        for name, sdk in sdks.items():
            for turn in range(count):
                number = len(made)
                client = await sdk.open(urls[number % len(urls)])
                made.append(_Witness(f"{name} {turn}", number, client))
        group = Witnesses(made)
        for witness in made:
            await witness.client.connect()
            for channel in group.channels:
                await witness.client.subscribe(channel, recoverable=True, positioned=True)
        timing = asyncio.create_task(group.time())
        try:
            yield group
        finally:
            timing.cancel()
    finally:
        for sdk in sdks.values():
            await sdk.close()
