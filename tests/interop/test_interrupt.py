"""Ctrl+C: the server says goodbye to its clients, and nothing to its user."""

import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosedOK
from websockets.sync.client import connect

from tests.interop.serving import LIBRARIES, PROGRAMS, WAITING, Library, serving
from tests.timing import MS

READY = b"\x81\x05ready"
CLOSE_1001 = b"\x88\x02\x03\xe9"

CLIENT_TIMEOUT = 20_000 * MS

# Python may end by itself, as a shell says it (128 + 2), or by the signal.
INTERRUPTED = (0, 130, -signal.SIGINT)


@pytest.fixture(autouse=True)
def interruptible() -> Generator[None]:
    """Have programs heed SIGINT even if these tests run in the background of a shell.

    A shell without job control starts what runs behind `&` with SIGINT ignored, and children
    inherit that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("source", PROGRAMS.values(), ids=PROGRAMS)
def test_sigint_ends_hello_without_a_word(source: Path, tmp_path: Path) -> None:
    with serving(source, "hubbub", tmp_path) as served:
        served.program.interrupt()
        end = served.program.wait()

    assert end.stderr == ""
    assert end.code in INTERRUPTED


def test_sigint_with_clients_ends_without_a_word(tmp_path: Path) -> None:
    with serving(WAITING, "hubbub", tmp_path) as served, connect(served.url) as websocket:
        assert websocket.recv(timeout=CLIENT_TIMEOUT) == "ready"
        served.program.interrupt()
        end = served.program.wait()

    assert end.stderr == ""
    assert end.code in INTERRUPTED


@pytest.mark.parametrize("library", LIBRARIES)
def test_sigint_closes_connections_with_1001(library: Library, tmp_path: Path) -> None:
    with serving(WAITING, library, tmp_path) as served, connect(served.url) as websocket:
        assert websocket.recv(timeout=CLIENT_TIMEOUT) == "ready"
        with served.connect() as client:
            client.shake_hands()
            assert client.read(len(READY)) == READY
            served.program.interrupt()

            assert client.read(len(CLOSE_1001)) == CLOSE_1001
            client.send_close(1001)
            assert client.read_to_end() == b""

        with pytest.raises(ConnectionClosedOK) as raised:
            websocket.recv(timeout=CLIENT_TIMEOUT)
        assert raised.value.rcvd is not None
        assert (raised.value.rcvd.code, raised.value.rcvd.reason) == (1001, "")
        assert served.program.wait().code in INTERRUPTED
