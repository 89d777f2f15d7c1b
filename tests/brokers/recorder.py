"""What tests of brokers have in the place of a hub."""

from collections.abc import Callable

from hubbub.brokers.base import Event
from hubbub.model import Publication

__all__ = ["Recorder"]


class Recorder:
    """A receiver that keeps what it gets, and may do something on it."""

    def __init__(self, react: Callable[[bytes], object] = lambda data: None) -> None:
        self.seen: list[bytes] = []
        self.react = react

    def deliver(self, channel: str, event: Event) -> None:
        data = event.data if isinstance(event, Publication) else b"join or leave"
        self.seen.append(data)
        self.react(data)

    def control(self, message: bytes) -> None:
        self.seen.append(message)
        self.react(message)

    def suspect(self, channels: object) -> None:
        raise AssertionError("nothing is lost")
