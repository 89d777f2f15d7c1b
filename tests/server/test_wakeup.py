"""A signal wakes a loop that waits, whichever thread the kernel gives it to."""

import asyncio
import signal
import threading
from types import FrameType

import pytest

from hubbub import ServerConnection, serve
from hubbub.server.wakeup import wake_for_signals
from tests.timing import MS

TIMEOUT = 20_000 * MS


async def say_nothing(websocket: ServerConnection) -> None:
    """Return at once."""


@pytest.mark.asyncio(loop_factories=["uvloop", "asyncio"])
async def test_signal_given_to_another_thread_wakes_the_loop_of_a_server() -> None:
    loop = asyncio.get_running_loop()
    rcvd = asyncio.Event()

    def receive(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(rcvd.set)

    is_waiting = threading.Event()

    def send() -> None:
        is_waiting.wait(TIMEOUT)
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, receive)
    try:
        async with serve(say_nothing, "localhost", 0):
            thread = threading.Thread(target=send)
            thread.start()
            loop.call_soon(is_waiting.set)
            async with asyncio.timeout(TIMEOUT):
                await rcvd.wait()
            thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_wakeup_of_somebody_else_is_left_to_them() -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR2, lambda: None)
    before = signal.getsignal(signal.SIGURG)

    wake_for_signals()

    assert signal.getsignal(signal.SIGURG) is before
