"""Being asked to stop: the first SIGINT or SIGTERM asks, the second forces."""

import contextlib
import itertools
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

from hubbub.server.wakeup import wake_for_signals

__all__ = ["ignore_hangup", "on_hangup", "on_stop_signals"]

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def on_stop_signals(ask: Callable[[], None], force: Callable[[], None] = lambda: None) -> None:
    """Take SIGINT and SIGTERM over, for the rest of the process.

    The handlers are Python's, not the event loop's: they run between two bytecodes, so the second
    Ctrl+C also ends a server whose loop is held up by a handler that computes.

    Args:
        ask: Called at the first signal, in the main thread, between any two bytecodes.
        force: Called at the second, before the process dies of it; must not block.
    """
    with contextlib.suppress(RuntimeError):  # nothing waits in a loop
        wake_for_signals()
    # A handler can be interrupted by the other signal's between a check and an assignment, and then
    # both would be the first; counting is one step of the interpreter.
    rcvd = itertools.count()

    def receive(number: int, frame: FrameType | None) -> None:
        if next(rcvd) == 0:
            ask()
            return
        force()
        # Dying of the signal tells the parent the truth about how it ended.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    for number in _STOP_SIGNALS:
        signal.signal(number, receive)


def on_hangup(reload: Callable[[], None], stop: Callable[[], None]) -> None:
    """Take SIGHUP over, for the rest of the process.

    Args:
        reload: Called at each, in the main thread, between any two bytecodes.
        stop: Called instead if it means what its name says: the terminal was closed.
    """
    had_terminal = _has_terminal()

    def receive(number: int, frame: FrameType | None) -> None:
        if had_terminal and not _has_terminal():
            stop()
        else:
            reload()

    signal.signal(signal.SIGHUP, receive)


def ignore_hangup() -> None:
    """Leave SIGHUP to the supervisor: a terminal that is closed sends it to all."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
