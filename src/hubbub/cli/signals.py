"""Being asked to stop: the first SIGINT or SIGTERM asks, the second forces."""

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Final

__all__ = ["on_stop_signals"]

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def on_stop_signals(ask: Callable[[], None], force: Callable[[], None] = lambda: None) -> None:
    """Take SIGINT and SIGTERM over, for the rest of the process.

    The handlers are Python's, not the event loop's: they run between two bytecodes, so the second
    Ctrl+C also ends a server whose loop is held up by a handler that computes.

    Args:
        ask: Called at the first signal, in the main thread, between any two bytecodes.
        force: Called at the second, before the process dies of it; must not block.
    """
    _wake_loop_for_signals()
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


def _wake_loop_for_signals() -> None:
    """Have the running loop wake up for signals, so that handlers of Python's get to run.

    A signal that comes in the moment before the loop waits, or that the kernel gives to another
    thread, interrupts nothing: its handler would run only when something else ends the waiting.
    asyncio's loop for Unix lets signals wake it once it has a handler of its own, whichever handler
    there is later; others always do.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # nothing waits in a loop
        return
    if isinstance(loop, asyncio.SelectorEventLoop) and sys.platform != "win32":
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, lambda: None)
