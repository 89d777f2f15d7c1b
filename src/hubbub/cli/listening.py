"""The place where a server listens: a TCP port, a Unix socket, or a socket inherited from outside.

Everything that can be wrong with it is found here, before the server starts, and told in one line.
"""

import errno
import os
import socket
import stat
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, assert_never

from hubbub.cli.failure import Failure

__all__ = [
    "AssignedSockets",
    "InheritedSocket",
    "ListenAddress",
    "Listener",
    "TcpAddress",
    "UnixAddress",
    "bind_failure",
    "fixed_port",
    "listen",
]

# How often a free port is looked for that is free on all addresses of the host.
_ATTEMPTS: Final = 20

_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - recognized, not bound


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP port on all addresses that a host name has; port 0 is any free one."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket in the file system."""

    path: Path


@dataclass(frozen=True, slots=True)
class InheritedSocket:
    """A listening socket that the parent process left open, as systemd and circus do."""

    fd: int


@dataclass(frozen=True, slots=True)
class AssignedSockets:
    """Sockets of a supervisor, which need not listen yet; on one address each."""

    fds: tuple[int, ...]


ListenAddress = TcpAddress | UnixAddress | InheritedSocket | AssignedSockets


@dataclass(frozen=True, slots=True)
class Listener:
    """An address that has been found to work.

    Attributes:
        keywords: Arguments for `hubbub.serve` or, if `unix`, for `hubbub.unix_serve`.
        unix: Whether it is a Unix socket.
        location: For people: `localhost:8005`, or the path.
        release: Leaves nothing behind, when the process is about to end at once.
    """

    keywords: dict[str, Any]
    unix: bool
    location: str
    release: Callable[[], None] = lambda: None


@contextmanager
def listen(address: ListenAddress) -> Generator[Listener]:
    """Prepare to listen at `address`; afterwards a Unix socket's file is removed.

    TCP ports are tried and released again, for the server binds them itself: so `localhost` can
    mean two sockets, and addresses that this machine does not have (a container without IPv6) are
    left out.

    Raises:
        Failure: Nobody can listen there, and why.
    """
    match address:
        case TcpAddress(host, port):
            hosts, port = _free_port(host, port)
            shown = "localhost" if host in _WILDCARDS else f"[{host}]" if ":" in host else host
            yield Listener({"host": hosts, "port": port}, False, f"{shown}:{port}")
        case UnixAddress(path):
            with _unix_socket(path) as (sock, release):
                yield Listener({"sock": sock}, True, str(path), release)
        case InheritedSocket(fd):
            with _inherited_socket(fd) as sock:
                unix = sock.family == socket.AF_UNIX
                yield Listener({"sock": sock}, unix, _name(sock))
        case AssignedSockets(fds):
            with ExitStack() as stack:
                socks = [stack.enter_context(socket.socket(fileno=fd)) for fd in fds]
                unix = socks[0].family == socket.AF_UNIX
                yield Listener({"sock": socks[0] if unix else socks}, unix, _name(socks[0]))
        case _:
            assert_never(address)


def fixed_port(address: TcpAddress) -> TcpAddress:
    """Return `address` with a free port in place of port 0.

    Raises:
        Failure: Nobody can listen there, and why.
    """
    _, port = _free_port(address.host, address.port)
    return TcpAddress(address.host, port)


def bind_failure(exc: OSError, host: str, port: int) -> Failure:
    """Say why `host` and `port` could not be bound."""
    match exc.errno:
        case errno.EADDRINUSE:
            problem = f"port {port} is already in use: choose another with --port"
        case errno.EACCES:
            problem = f"port {port} needs a permission that you lack: choose another with --port"
        case errno.EADDRNOTAVAIL:
            problem = f"host '{host}' is no address of this machine: choose another with --host"
        case _:
            problem = f"cannot listen on host '{host}', port {port}: {exc.strerror or exc}"
    return Failure(problem)


def _free_port(host: str, port: int) -> tuple[list[str], int]:
    """Return the addresses of `host` that exist here, and the port, which is free on all."""
    addresses = _resolve(host, port)
    for attempt in range(_ATTEMPTS):
        try:
            return _probe(addresses, port)
        except OSError as exc:
            # Port 0: what is free on the first address may be taken on the second.
            if port or exc.errno != errno.EADDRINUSE or attempt == _ATTEMPTS - 1:
                raise bind_failure(exc, host, port) from exc
    raise AssertionError  # unreachable: the last attempt returns or raises


def _resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    if not host:
        raise Failure("--host is empty: write 0.0.0.0 or :: for all addresses of this machine")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as exc:  # UnicodeError: labels too long for IDNA
        raise Failure(f"host '{host}' cannot be resolved: choose another with --host") from exc
    return list(dict.fromkeys((family, sockaddr) for family, _, _, _, sockaddr in found))


def _probe(
    addresses: list[tuple[socket.AddressFamily, tuple[Any, ...]]], port: int
) -> tuple[list[str], int]:
    hosts: list[str] = []
    missing: OSError | None = None
    probes: list[socket.socket] = []
    try:
        for family, sockaddr in addresses:
            try:
                probe = socket.socket(family, socket.SOCK_STREAM)
            except OSError as exc:  # the kernel is built without this family
                missing = exc
                continue
            probes.append(probe)
            if os.name == "posix":  # elsewhere it would share the port with a live server
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((sockaddr[0], port, *sockaddr[2:]))
            except OSError as exc:
                if exc.errno != errno.EADDRNOTAVAIL:
                    raise
                missing = exc
                continue
            port = port or probe.getsockname()[1]
            hosts.append(sockaddr[0])
    finally:
        for probe in probes:
            probe.close()
    if not hosts:
        assert missing is not None
        raise missing
    return hosts, port


@contextmanager
def _unix_socket(path: Path) -> Generator[tuple[socket.socket, Callable[[], None]]]:
    if not hasattr(socket, "AF_UNIX"):
        raise Failure("--uds needs Unix sockets, which this system lacks")
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
    except OSError as exc:
        sock.close()
        # "AF_UNIX path too long" has no errno and so no strerror.
        raise Failure(f"--uds: cannot listen on '{path}': {exc.strerror or exc}") from exc
    release = partial(_remove_own, path, path.stat())
    try:
        yield sock, release
    finally:
        sock.close()
        release()


def _remove_stale(path: Path) -> None:
    """Remove the socket of a server that is no more; anything else there is an error."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as exc:
        raise Failure(f"--uds: cannot listen on '{path}': {exc.strerror}") from exc
    if not stat.S_ISSOCK(mode):
        raise Failure(f"--uds: '{path}' exists and is no socket: choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog of a live server must not hold us
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # alive, and busy
        except OSError as exc:
            raise Failure(f"--uds: cannot listen on '{path}': {exc.strerror}") from exc
    raise Failure(f"--uds: a server listens on '{path}' already: choose another path")


def _remove_own(path: Path, made: os.stat_result) -> None:
    try:
        now = path.lstat()
    except FileNotFoundError:
        return
    # Another server may have taken the path over meanwhile; its socket is not ours to remove.
    if (now.st_dev, now.st_ino) == (made.st_dev, made.st_ino):
        path.unlink(missing_ok=True)


def _inherited_socket(fd: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as exc:
        problem = "is not open" if exc.errno == errno.EBADF else "is no socket"
        raise Failure(f"--fd: descriptor {fd} {problem}: pass a listening socket") from exc
    if sock.type != socket.SOCK_STREAM or not _listens(sock):
        sock.detach()  # not ours to close
        raise Failure(f"--fd: the socket with descriptor {fd} does not listen")
    return sock


def _listens(sock: socket.socket) -> bool:
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except (AttributeError, OSError):
        return True  # the system cannot tell; the server will find out


def _name(sock: socket.socket) -> str:
    name = sock.getsockname()
    if not isinstance(name, tuple):
        return str(name)
    host, port = name[:2]
    if host in _WILDCARDS:
        host = "localhost"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
