"""Being asked to stop, whatever the event loop is at when the signal comes."""

import asyncio
import signal
import threading
from collections.abc import Iterator

import pytest

from hubbub.cli.loops import thread_safe
from hubbub.cli.signals import on_stop_signals
from tests.timing import MS

TIMEOUT = 20_000 * MS


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put back what handled signals before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.asyncio(loop_factories=["uvloop", "asyncio"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signal_that_interrupts_nothing_wakes_the_loop(number: signal.Signals) -> None:
    stop = asyncio.Event()
    on_stop_signals(thread_safe(stop.set))
    is_waiting = threading.Event()

    def send() -> None:
        is_waiting.wait(TIMEOUT)
        # To this thread: the main thread, which runs handlers, is not interrupted.
        signal.pthread_kill(threading.get_ident(), number)

    thread = threading.Thread(target=send)
    thread.start()
    asyncio.get_running_loop().call_soon(is_waiting.set)
    async with asyncio.timeout(TIMEOUT):
        await stop.wait()
    thread.join()
