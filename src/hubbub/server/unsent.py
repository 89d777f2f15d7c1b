"""How much a peer has not taken yet, the kernel's part included."""

import asyncio
import contextlib
import struct

try:
    from fcntl import ioctl
    from termios import TIOCOUTQ
except ImportError:  # Windows: the transport's part alone
    ioctl = None  # type: ignore[assignment]

__all__ = ["unsent"]


def unsent(transport: asyncio.WriteTransport) -> int:
    """Count the bytes that wait in the transport, and in the kernel for the peer to take them.

    The transport's part alone says little about a slow peer: the kernel takes more only when a
    third of its buffer, of some megabytes, is free again (tcp(7), unix(7): SIOCOUTQ).
    """
    waiting = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if ioctl is not None and sock is not None:
        # An error: closed meanwhile, or a socket of another kind.
        with contextlib.suppress(OSError):
            waiting += struct.unpack("i", ioctl(sock.fileno(), TIOCOUTQ, bytes(4)))[0]
    return waiting
