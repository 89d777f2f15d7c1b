"""The event loop of the command line: uvloop where it exists, asyncio's elsewhere."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

try:
    import uvloop
except ImportError:  # Windows and PyPy
    _loop_factory = None
else:
    _loop_factory = uvloop.new_event_loop

__all__ = ["run_async", "thread_safe"]

T = TypeVar("T")


def run_async(main: Coroutine[object, object, T]) -> T:
    """Run `main` on a new event loop; what it leaves running is cancelled."""
    with asyncio.Runner(loop_factory=_loop_factory) as runner:
        return runner.run(main)


def thread_safe(callback: Callable[[], None]) -> Callable[[], None]:
    """Return a function that runs `callback` in the running loop, from threads and signals.

    Once the loop is closed it does nothing: there is nobody left to tell.
    """
    loop = asyncio.get_running_loop()

    def call() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(callback)

    return call
