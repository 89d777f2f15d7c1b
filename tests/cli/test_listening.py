"""Places to listen, on real sockets."""

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubbub.cli.failure import Failure
from hubbub.cli.listening import (
    InheritedSocket,
    TcpAddress,
    UnixAddress,
    bind_failure,
    fixed_port,
    listen,
)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of 127.0.0.1 on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Short: the path of a Unix socket has at most about 100 bytes.
    return tmp_path_factory.mktemp("uds") / "s"


def failure(address: TcpAddress | UnixAddress | InheritedSocket) -> str:
    with pytest.raises(Failure) as raised, listen(address):
        pass
    return str(raised.value)


def test_port_0_becomes_a_free_port() -> None:
    with listen(TcpAddress("127.0.0.1", 0)) as listener:
        port = listener.keywords["port"]

    assert port > 0
    assert listener.keywords["host"] == ["127.0.0.1"]
    assert listener.location == f"127.0.0.1:{port}"
    assert fixed_port(TcpAddress("127.0.0.1", port)).port == port


def test_all_interfaces_are_shown_as_localhost() -> None:
    with listen(TcpAddress("0.0.0.0", 0)) as listener:
        assert listener.location.startswith("localhost:")


def test_taken_port_is_named(taken: int) -> None:
    assert failure(TcpAddress("127.0.0.1", taken)) == (
        f"port {taken} is already in use: choose another with --port"
    )


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        ("nosuch.invalid", "host 'nosuch.invalid' cannot be resolved: choose another with --host"),
        ("a" * 64, f"host '{'a' * 64}' cannot be resolved: choose another with --host"),
        # RFC 5737: of documentation, and of no machine.
        ("192.0.2.1", "host '192.0.2.1' is no address of this machine: choose another with --host"),
        ("", "--host is empty: write 0.0.0.0 or :: for all addresses of this machine"),
    ],
)
def test_host_that_cannot_be_bound_is_named(host: str, problem: str) -> None:
    assert failure(TcpAddress(host, 0)) == problem


def test_privileged_port_is_explained() -> None:
    denied = OSError(errno.EACCES, "Permission denied")

    assert str(bind_failure(denied, "localhost", 80)) == (
        "port 80 needs a permission that you lack: choose another with --port"
    )


def test_unix_socket_is_made_and_removed(path: Path) -> None:
    with listen(UnixAddress(path)) as listener:
        assert path.is_socket()
        assert listener.unix
        assert listener.location == str(path)

    assert not path.exists()


def test_stale_unix_socket_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    with listen(UnixAddress(path)):
        assert path.is_socket()


def test_live_unix_socket_is_left_alone(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen()

        assert failure(UnixAddress(path)) == (
            f"--uds: a server listens on '{path}' already: choose another path"
        )
        assert path.is_socket()


def test_regular_file_is_not_replaced(path: Path) -> None:
    path.write_text("precious")

    assert failure(UnixAddress(path)) == (
        f"--uds: '{path}' exists and is no socket: choose another path"
    )
    assert path.read_text() == "precious"


def test_unix_socket_in_no_directory_is_refused(path: Path) -> None:
    missing = path.parent / "missing" / "s"

    assert failure(UnixAddress(missing)) == (
        f"--uds: cannot listen on '{missing}': No such file or directory"
    )


def test_too_long_unix_path_is_refused(path: Path) -> None:
    long = path.parent / ("x" * 120)

    assert failure(UnixAddress(long)).startswith(f"--uds: cannot listen on '{long}': ")


def test_unix_socket_that_another_server_took_over_is_left(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other, listen(UnixAddress(path)):
        # Under another name first: a freed inode may be given out again at once.
        other.bind(f"{path}2")
        Path(f"{path}2").rename(path)

    assert path.is_socket()


def test_inherited_socket_is_used() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with listen(InheritedSocket(server.dup().detach())) as listener:
            assert listener.location == f"127.0.0.1:{port}"
            assert not listener.unix


def test_descriptor_that_is_no_listening_socket_is_refused(tmp_path: Path) -> None:
    assert failure(InheritedSocket(9999)) == (
        "--fd: descriptor 9999 is not open: pass a listening socket"
    )
    with (tmp_path / "file").open("w") as file:
        assert failure(InheritedSocket(file.fileno())) == (
            f"--fd: descriptor {file.fileno()} is no socket: pass a listening socket"
        )
    with socket.socket() as idle:
        assert failure(InheritedSocket(idle.fileno())) == (
            f"--fd: the socket with descriptor {idle.fileno()} does not listen"
        )
