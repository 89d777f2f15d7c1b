"""Waking the event loop for signals, so that Ctrl+C is never lost."""

import asyncio
import signal
import sys
import threading

__all__ = ["wake_for_signals"]


def wake_for_signals() -> None:
    """Have the running loop wake up for signals, so that handlers of Python's get to run.

    A signal that comes in the moment before the loop waits, or that the kernel gives to another
    thread, interrupts nothing: its handler would run only when something else ends the waiting.
    `asyncio.run` handles SIGINT by such a handler. asyncio's loop for Unix lets signals wake it
    once it has a handler of its own, for any signal; other loops always do. Idempotent.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.SelectorEventLoop):
        return
    woken = signal.set_wakeup_fd(-1)
    if woken != -1:  # somebody is woken already, most often this loop
        signal.set_wakeup_fd(woken)
        return
    if signal.getsignal(signal.SIGURG) is signal.SIG_DFL:
        # Ignored by default, and used by nobody: no handler of the application's is touched.
        loop.add_signal_handler(signal.SIGURG, lambda: None)
