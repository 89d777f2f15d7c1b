"""The last step of a broker that is alone: what happened in a channel goes to the receiver."""

from collections import deque

from hubbub.brokers.base import Event, Receiver

__all__ = ["HandOver"]


class HandOver:
    """Calls the receiver in the order of the calls here, and never within another call of it.

    What is handed over from within a call of the receiver follows after that call, in its turn.
    What the receiver raises comes out of the method that called it.

    Attributes:
        receiver: `None`: nobody runs the broker, and what is handed over is dropped.
        subscribed: The channels that the receiver wants.
    """

    def __init__(self) -> None:
        self.receiver: Receiver | None = None
        self.subscribed = set[str]()
        # What the receiver has yet to be given; channel `None`: a control message.
        self._waiting: deque[tuple[str, Event] | tuple[None, bytes]] = deque()
        self._calling = False

    def start(self, receiver: Receiver) -> None:
        """Have a receiver, which wants no channel yet."""
        self.receiver = receiver

    def stop(self) -> None:
        """Call the receiver no more."""
        self.receiver = None
        self.subscribed.clear()

    def deliver(self, channel: str, event: Event) -> None:
        """Hand over what happened in a channel, if the receiver wants that channel."""
        if channel in self.subscribed:
            self._waiting.append((channel, event))
            self._flush()

    def control(self, message: bytes) -> None:
        """Hand over a control message."""
        if self.receiver is not None:
            self._waiting.append((None, message))
            self._flush()

    def _flush(self) -> None:
        """Call the receiver with what waits, unless it is in a call: that one goes on then."""
        if self._calling:
            return
        waiting = self._waiting
        self._calling = True
        try:
            while waiting:
                item = waiting.popleft()
                receiver = self.receiver
                assert receiver is not None, "nothing waits unless running"
                if item[0] is None:
                    receiver.control(item[1])
                else:
                    receiver.deliver(item[0], item[1])
        finally:
            self._calling = False
            if waiting:  # the receiver failed: what others published meanwhile is not lost
                self._flush()
