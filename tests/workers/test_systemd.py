"""What systemd is told, on a socket like its own."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubbub.workers.systemd import notify_ready, notify_reloading, notify_stopping
from tests.timing import MS


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[socket.socket]:
    path = str(tmp_path_factory.mktemp("n") / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5_000 * MS)
        sock.bind(f"\0{path}" if request.param == "abstract" else path)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{path}" if request.param == "abstract" else path)
        yield sock


def test_states_are_told(manager: socket.socket) -> None:
    notify_ready()
    notify_reloading()
    notify_stopping()

    assert manager.recv(256) == b"READY=1"
    assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", manager.recv(256))
    assert manager.recv(256) == b"STOPPING=1"


def test_nobody_is_told_where_there_is_no_systemd(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify_ready()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify_ready()
