"""Clients of `hubbub verify`: those that subscribe, and those that publish."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from hubbub.cli.events import Event
from hubbub.cli.failure import Failure
from hubbub.cli.following import Follower, Lost
from hubbub.cli.verification import Sent, Verification
from hubbub.protocol.commands import PublishRequest
from hubbub.protocol.results import SubscribeResult
from hubbub.protocol.values import Error, Publication

__all__ = ["MIN_SIZE", "Payloads", "Publisher", "Subscriber", "Tally"]

MIN_SIZE: Final = 48
"""Smallest payload in bytes: mark, channel, publisher and number have to go in."""


class Payloads:
    """Payloads that say what they are: JSON strings.

    Args:
        mark: Tells those of this run from all others; 8 bytes.
        channels: Names; a payload has the place of one in it.
        size: Of a payload in bytes, at least `MIN_SIZE`.
    """

    def __init__(self, mark: bytes, channels: Sequence[str], size: int) -> None:
        self._mark = b'"%b ' % mark
        self._places = {name: place for place, name in enumerate(channels)}
        self._size = size

    def write(self, channel: str, sent: Sent) -> msgspec.Raw:
        """Build the payload of a publication."""
        place = self._places[channel]
        text = b"%b%d %d %d " % (self._mark, place, sent.publisher, sent.number)
        return msgspec.Raw(b'%b"' % text.ljust(self._size - 1, b"."))

    def read(self, channel: str, publication: Publication) -> tuple[int, int] | None:
        """Tell which publication it is; `None` if it is somebody else's.

        The publisher of a publication of another channel is told as a negative number.
        """
        data = bytes(publication.data)
        if not data.startswith(self._mark):
            return None
        _, place, publisher, number, _ = data.split(b" ", 4)
        if int(place) != self._places[channel]:
            return -1 - int(publisher), int(number)
        return int(publisher), int(number)


@dataclass(slots=True)
class Tally:
    """What all clients of one run count together.

    Attributes:
        refusals: Error replies to publish commands, by code and message.
        unanswered: Publish commands without a reply.
        left_out: Publications that were due while their publisher could not publish.
    """

    refusals: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    left_out: int = 0


class Subscriber:
    """Follows channels, and tells what it sees (`hubbub.cli.following.Watcher`).

    Args:
        number: Tells it from the other subscribers.

    Attributes:
        follower: What it follows them with; set once it exists, as it needs its watcher.
        heard: Channels in which a canary came.
        refusals: Channels that it was refused, with the reason.
        unrecoverable: A channel that cannot be recovered, and so not be verified; empty: none.
    """

    follower: Follower

    def __init__(
        self, number: int, channels: Sequence[str], verification: Verification, payloads: Payloads
    ) -> None:
        self.number = number
        self.channels = channels
        self.failure: Failure | None = None
        self.heard: set[str] = set()
        self.refusals: dict[str, str] = {}
        self.unrecoverable = ""
        self._verification = verification
        self._payloads = payloads

    @property
    def is_settled(self) -> bool:
        """Whether it stands in all of its channels now."""
        return all(self.follower.is_subscribed(channel) for channel in self.channels)

    def happened(self, events: Sequence[Event]) -> None:
        """Check publications."""
        for event in events:
            publication = event.publication
            if publication is None:
                continue
            sent = self._verification.delivered(
                self.number,
                event.channel,
                self._payloads.read(event.channel, publication),
                publication.offset,
                publication.epoch,
            )
            if sent is not None and sent.is_canary:
                self.heard.add(event.channel)

    def notice(self, text: str) -> None:
        """Take no notice: a client comes and goes."""

    def subscribed(self, channel: str, result: SubscribeResult) -> None:
        """Check what a subscription was told."""
        if not result.recoverable:
            self.unrecoverable = channel
        self._verification.subscribed(
            self.number,
            channel,
            result.epoch,
            result.offset,
            recovered=result.recovered,
            missed=len(result.publications),
        )

    def refused(self, channel: str, why: str) -> None:
        """Note that a channel is lost for good."""
        self.refusals[channel] = why
        self._verification.leave(self.number, channel)

    def give_up(self, failure: Failure) -> None:
        """Note that it will not come back."""
        self.failure = failure
        for channel in self.channels:
            self._verification.leave(self.number, channel)


class Publisher:
    """Publishes, one publication after the other, none of them twice.

    It needs no more of a watcher than that there is one.
    """

    follower: Follower

    def __init__(
        self, number: int, verification: Verification, payloads: Payloads, tally: Tally
    ) -> None:
        self.number = number
        self.failure: Failure | None = None
        self._verification = verification
        self._payloads = payloads
        self._tally = tally
        self._turn = asyncio.Lock()

    async def publish(self, channel: str, *, is_canary: bool = False) -> Error | None:
        """Publish the next number, unless there is no connection.

        Returns:
            The error that it was answered with.

        Cancelled: it may have been published, and counts as not acknowledged.
        """
        async with self._turn:
            if not self.follower.client:
                self._tally.left_out += 1
                return None
            sent = self._verification.send(channel, self.number, is_canary=is_canary)
            data = self._payloads.write(channel, sent)
            try:
                reply = await self.follower.ask("publish", PublishRequest(channel, data))
            except Lost:
                self._tally.unanswered += 1
                return None
            if reply.error is not None:
                self._tally.refusals[f"{reply.error.code} {reply.error.message}"] += 1
                return reply.error
            self._verification.acknowledge(channel, sent)
            return None

    def happened(self, events: Sequence[Event]) -> None:
        """Take nothing: it follows no channel."""

    def notice(self, text: str) -> None:
        """Take no notice: a client comes and goes."""

    def subscribed(self, channel: str, result: SubscribeResult) -> None:
        """Take nothing: it follows no channel."""

    def refused(self, channel: str, why: str) -> None:
        """Take nothing: it follows no channel."""

    def give_up(self, failure: Failure) -> None:
        """Note that it will not come back."""
        self.failure = failure
