"""Network namespaces: a machine's network cut in two, with a cable between them to pull.

Everything is made by `ip` of iproute2 and lives inside the namespaces: the machine's own network
gets no address, no route and no interface. A program inside is reached by a listening socket that
it inherits, for a socket stays in the namespace in which it was made.
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.timing import MS

__all__ = ["Cable", "Namespace", "cable", "why_no_namespaces"]

_TIMEOUT = 10_000 * MS


@dataclass(frozen=True, slots=True)
class Namespace:
    """One end of a cable.

    Attributes:
        name: As `ip netns` has it.
        address: IPv4, of this end.
    """

    name: str
    address: str

    @property
    def entrance(self) -> list[str]:
        """What to write in front of a command that is to run inside."""
        return ["ip", "netns", "exec", self.name]


@dataclass(frozen=True, slots=True)
class Cable:
    """Two namespaces that reach each other, and nobody else."""

    near: Namespace
    far: Namespace

    def cut(self) -> None:
        """Let every packet be lost, in both directions; nobody is told."""
        self._set("down")

    def mend(self) -> None:
        """Let packets pass again."""
        self._set("up")

    def _set(self, state: str) -> None:
        # The near end, so that the far one keeps its address and routes: it sends into the void.
        _ip("-n", self.near.name, "link", "set", "cable", state)


@contextmanager
def cable() -> Iterator[Cable]:
    """Make two namespaces with a cable between them, and remove both."""
    mark = secrets.token_hex(3)
    near = Namespace(f"hubbub-{mark}-near", "10.213.0.1")
    far = Namespace(f"hubbub-{mark}-far", "10.213.0.2")
    with ExitStack() as stack:
        for namespace in (near, far):
            _ip("netns", "add", namespace.name)
            stack.callback(_ip, "netns", "del", namespace.name)
            _ip("-n", namespace.name, "link", "set", "lo", "up")
        # Both ends are made where they belong: neither is ever in the machine's own namespace.
        _ip(
            *("-n", near.name, "link", "add", "cable", "type", "veth"),
            *("peer", "name", "cable", "netns", far.name),
        )
        for namespace in (near, far):
            _ip("-n", namespace.name, "address", "add", f"{namespace.address}/24", "dev", "cable")
            _ip("-n", namespace.name, "link", "set", "cable", "up")
        yield Cable(near, far)


def why_no_namespaces() -> str:
    """Say why no namespace can be made here; empty: it can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces are made by root"
    try:
        with cable():
            return ""
    except FileNotFoundError:
        return "ip is not installed: apt install iproute2"
    except subprocess.CalledProcessError as exc:
        return f"no network namespace: {exc.stderr.decode(errors='replace').strip()}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=_TIMEOUT)
