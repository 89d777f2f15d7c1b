"""Where a command that watches writes: lines to standard output, the rest to standard error.

Each is written before the call returns: whoever reads slowly holds up who writes. In a terminal, a
few lines of status stay below all others.
"""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from rich.console import Console
from rich.text import Text

from hubbub.cli.escape import escape

__all__ = ["Screen"]


class Screen:
    """Standard output and standard error of this process.

    Args:
        on_reader_gone: Called when nobody reads one of them any more (`| head`).

    Attributes:
        has_status: Whether there is a terminal for the status.
    """

    def __init__(self, on_reader_gone: Callable[[], None]) -> None:
        self._on_reader_gone = on_reader_gone
        self._lines = Console(file=sys.stdout, highlight=False)
        self._notices = Console(file=sys.stderr, highlight=False)
        self._status: list[str] = []
        self._is_terminal = self._lines.is_terminal
        self.has_status = self._notices.is_terminal and not self._notices.is_dumb_terminal

    def write(self, lines: Iterable[str]) -> None:
        """Write lines as they are."""
        self._print(sys.stdout, "".join(f"{line}\n" for line in lines))

    def write_parts(self, lines: Iterable[Sequence[tuple[str, str]]]) -> None:
        """Write lines of text and style: coloured and cut to the width, if it is a terminal."""
        if not self._is_terminal:
            self.write("".join(text for text, _ in parts) for parts in lines)
            return
        width = self._lines.width
        with self._lines.capture() as capture:
            for parts in lines:
                text = Text.assemble(*parts, no_wrap=True)
                text.truncate(width, overflow="ellipsis")
                self._lines.print(text, soft_wrap=True)
        self._print(sys.stdout, capture.get())

    def notice(self, text: str) -> None:
        """Write what people should know besides."""
        with self._notices.capture() as capture:
            self._notices.print(Text(escape(text), style="dim"), soft_wrap=True)
        self._print(sys.stderr, capture.get())

    def show_status(self, lines: Sequence[str]) -> None:
        """Replace the status; without a line there is none. Not where `has_status` is false."""
        erasing = self._erasure()
        width = self._notices.width - 1
        self._status = []
        for line in lines:
            text = Text(line)
            text.truncate(width, overflow="ellipsis")
            self._status.append(text.plain)
        self._put(sys.stderr, erasing + self._drawing())

    @property
    def max_status(self) -> int:
        """Most lines of status that leave room for others."""
        return max(1, min(10, self._notices.height // 3))

    def _print(self, stream: TextIO, text: str) -> None:
        # What goes into a file needs no room on the screen.
        shares = self._status and (stream is sys.stderr or self._is_terminal)
        if shares:
            self._put(sys.stderr, self._erasure())
        self._put(stream, text)
        if shares:
            self._put(sys.stderr, self._drawing())

    def _erasure(self) -> str:
        if not self._status:
            return ""
        up = len(self._status) - 1
        return f"\r\x1b[{up}A\x1b[J" if up else "\r\x1b[J"

    def _drawing(self) -> str:
        return "\n".join(self._status)

    def _put(self, stream: TextIO, text: str) -> None:
        try:
            stream.write(text)
            stream.flush()
        except BrokenPipeError:
            # Python flushes once more at exit, and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            self._on_reader_gone()
