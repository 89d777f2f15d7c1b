"""What a person or a program sees of a conversation: messages, and notices about the connection."""

import os
import sys
from collections.abc import Callable
from typing import Final, Protocol

from hubbub.cli.escape import escape

__all__ = ["PlainTranscript", "Transcript", "describe_bytes", "describe_message"]

# As many bytes as fit on a line of 120 columns with their text.
_SHOWN_BYTES: Final = 24


class Transcript(Protocol):
    """Shows a conversation."""

    async def message(self, message: str | bytes) -> None:
        """Show a message that was received; returns when it has been written."""

    async def notice(self, text: str) -> None:
        """Show what happened to the connection."""


class PlainTranscript:
    """Messages on standard output, one per line, and notices on standard error.

    Args:
        on_reader_gone: Called when nobody reads standard output any more (`| head`).
    """

    def __init__(self, on_reader_gone: Callable[[], None]) -> None:
        self._on_reader_gone = on_reader_gone

    async def message(self, message: str | bytes) -> None:
        """Write a message and hand it on at once: whoever reads may be waiting to answer."""
        try:
            sys.stdout.write(f"{describe_message(message)}\n")
            sys.stdout.flush()
        except BrokenPipeError:
            # Python flushes standard output once more at exit, and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self._on_reader_gone()

    async def notice(self, text: str) -> None:
        """Write a notice."""
        print(escape(text), file=sys.stderr, flush=True)


def describe_message(message: str | bytes) -> str:
    """Return a message on one line: text escaped, bytes as a summary."""
    if isinstance(message, str):
        return escape(message)
    return f"binary, {describe_bytes(message)}"


def describe_bytes(data: bytes) -> str:
    """Return the length and a hex dump of the first bytes: `3 bytes: 41 42 00 |AB.|`."""
    size = f"{len(data)} byte{'' if len(data) == 1 else 's'}"
    if not data:
        return size
    start = data[:_SHOWN_BYTES]
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in start)
    more = " …" if len(data) > len(start) else ""
    return f"{size}: {start.hex(' ')}{more} |{text}|{more}"
