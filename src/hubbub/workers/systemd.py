"""What systemd is told: ready, reloading, stopping (`sd_notify(3)`)."""

import os
import socket
import time

__all__ = ["notify_ready", "notify_reloading", "notify_stopping"]

_SOCKET = "NOTIFY_SOCKET"


def notify_ready() -> None:
    """Say that the service is up, or has been reloaded."""
    _notify("READY=1")


def notify_reloading() -> None:
    """Say that a reload has begun; `notify_ready` ends it."""
    # systemd.service(5): units of Type=notify-reload have to say when.
    _notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def notify_stopping() -> None:
    """Say that the service is about to end."""
    _notify("STOPPING=1")


def _notify(state: str) -> None:
    address = os.environ.get(_SOCKET)
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract socket
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(state.encode(), address)
    except OSError:
        pass  # sd_notify(3): serving goes on, whoever does not listen
