"""The queue between a connection's parser and its `recv`: whole messages stay small in it."""

from collections import deque
from collections.abc import Callable

from websockets.asyncio.messages import Assembler, SimpleQueue
from websockets.frames import Frame, Opcode

__all__ = ["Inbox", "Item"]

Item = Frame | str | bytes
"""A frame as the parent class parsed it, or a whole message from the hot path."""


class Inbox(Assembler):
    """An `Assembler` that takes whole messages besides frames.

    `put` queues a frame of the parent's parser, `put_message` a message of the hot path. The
    parent's `get` and `get_iter`, with their fragments, cancellation and flow control, see frames
    only: a message that is still queued when they are called becomes one. `wait` and
    `take_message` are the way around that, for `ServerConnection.recv`.
    """

    def __init__(
        self,
        high: int | None,
        low: int | None,
        pause: Callable[[], None],
        resume: Callable[[], None],
    ) -> None:
        super().__init__(high, low, pause, resume)
        self.frames: _Queue = _Queue()
        self.items = self.frames.items
        # What happens above `high`: reading pauses; after `drop_surplus`, the rest is dropped.
        self._drops = False
        self._dropped = False

    def put(self, frame: Frame) -> None:
        """Queue a frame of the parent's parser."""
        if not (self._drops and self._full()):
            super().put(frame)

    def put_message(self, message: str | bytes) -> None:
        """Queue a whole message, wake who waits for it, pause reading above `max_queue`."""
        if self._drops and self._full():
            return
        self.items.append(message)
        waiter = self.frames.get_waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        high = self.high
        if high is not None and len(self.items) > high and not self.paused:
            self.paused = True
            self.pause()

    async def wait(self) -> None:
        """Wait until an item is queued or the stream of frames has ended.

        Cancelled: nothing was taken.
        """
        frames = self.frames
        self.get_in_progress = True
        frames.get_waiter = frames.loop.create_future()
        try:
            await frames.get_waiter
        except EOFError:
            pass  # the caller finds the inbox closed
        finally:
            frames.get_waiter = None
            self.get_in_progress = False

    def take_message(self) -> str | bytes | None:
        """Take the next item if it is a whole message, else leave it and return `None`."""
        items = self.items
        if not items or isinstance(items[0], Frame):
            return None
        message = items.popleft()
        if self.paused:
            self.maybe_resume()
        assert not isinstance(message, Frame)  # help mypy
        return message

    def take_frame(self) -> Frame:
        """Take the next item, which must be there, as a frame."""
        return as_frame(self.items.popleft())

    def drop_surplus(self) -> None:
        """Read on from now on, and drop what comes above `max_queue`.

        For a connection that this side closes: the peer's answer stands behind all that it sent.
        """
        self._drops = True
        if self.paused:
            self.paused = False
            self.resume()

    def _full(self) -> bool:
        # Once something was dropped, what follows may be the rest of a message: dropped too.
        if self.high is not None and len(self.items) > self.high:
            self._dropped = True
        return self._dropped

    def release(self) -> None:
        """Give up flow control and refuse `get` from now on: somebody else takes the items."""
        self.get_in_progress = True
        self.high = self.low = None
        self.paused = False


class _Queue(SimpleQueue[Frame]):
    """A queue that holds items and gives frames."""

    def __init__(self) -> None:
        super().__init__()
        self.items: deque[Item] = self.queue  # type: ignore[assignment]

    async def get(self, block: bool = True) -> Frame:
        return as_frame(await super().get(block))


def as_frame(item: Item) -> Frame:
    """Turn a whole message back into the frame that it came in."""
    if isinstance(item, Frame):
        return item
    if isinstance(item, str):
        return Frame(Opcode.TEXT, item.encode())
    return Frame(Opcode.BINARY, item)
