"""Who is told of a connection's flow control and of its end, at once and without a task."""

from typing import Protocol

__all__ = ["Watcher"]


class Watcher(Protocol):
    """An object that `ServerConnection.watch` was given. No method may raise."""

    def writing_paused(self) -> None:
        """More than `write_limit` bytes wait to be sent: nothing should be written for now."""

    def writing_resumed(self) -> None:
        """The peer has read enough for more to be written."""

    def closing(self) -> None:
        """A close frame was sent or received, or the connection is lost: write nothing more.

        The last call, and the only one of its kind. The peer may take its time from here to the
        end of the TCP connection.
        """
