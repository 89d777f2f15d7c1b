"""The function that a connection passes its messages to instead of queueing them."""

from collections.abc import Callable
from typing import Any

from websockets.asyncio.messages import MAX_FRAGMENTS
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode, Frame
from websockets.typing import Data, LoggerLike

from hubbub.server.frames import TEXT

__all__ = ["Callback"]


class Callback:
    """Calls a function with each message; puts fragments together before.

    Args:
        function: Takes the message.
        decode: `True` for `str`, `False` for `bytes`, `None` after the message's type.
        fail: Fails the connection: the function raised, or a message was no UTF-8. Nothing is
            passed to the function afterwards.
        logger: For what the function raises.
    """

    __slots__ = ("_decode", "_fail", "_fragments", "_function", "_logger")

    def __init__(
        self,
        function: Callable[[Any], object],
        decode: bool | None,
        fail: Callable[[CloseCode, str], None],
        logger: LoggerLike,
    ) -> None:
        self._function = function
        self._decode = decode
        self._fail = fail
        self._logger = logger
        self._fragments: list[Frame] = []

    def message(self, first: int, payload: bytes) -> None:
        """Pass on a whole message.

        Args:
            first: First byte of its frame: `TEXT` or `BINARY`.
            payload: Unmasked; text is not checked yet.
        """
        message: Data = payload
        if first == TEXT if self._decode is None else self._decode:
            try:
                message = payload.decode()
            except UnicodeDecodeError as exc:
                self._end(CloseCode.INVALID_DATA, f"{exc.reason} at position {exc.start}")
                return
        try:
            self._function(message)
        except ConnectionClosed:
            pass  # a lost peer is a normal end; nothing is left to do for it
        except Exception:
            self._logger.exception("message callback failed")
            self._end(CloseCode.INTERNAL_ERROR, "")

    def frame(self, frame: Frame) -> None:
        """Take a frame of the parent's parser; pass on the message that it completes."""
        fragments = self._fragments
        fragments.append(frame)
        if len(fragments) > MAX_FRAGMENTS:
            self._end(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
        elif frame.fin:
            self._fragments = []
            payload = b"".join(fragment.data for fragment in fragments)
            self.message(0x80 | fragments[0].opcode, payload)

    def _end(self, code: CloseCode, reason: str) -> None:
        self._fragments = []
        self._function = _ignore
        self._fail(code, reason)


def _ignore(message: object) -> None:
    """Take the place of the function of a failed connection."""
