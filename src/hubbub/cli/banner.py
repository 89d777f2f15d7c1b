"""What a server says on standard output when it is ready: its addresses, and how it is stopped."""

import sys

from rich.console import Console
from rich.text import Text

from hubbub import __version__
from hubbub.cli.escape import escape
from hubbub.cli.listening import Listener

__all__ = ["print_banner"]


def print_banner(listener: Listener, subject: str, *, secure: bool) -> None:
    """Print the addresses on standard output, coloured if that is a terminal.

    Args:
        listener: Where the server listens.
        subject: What is served, for people.
        secure: Whether connections use TLS.
    """
    text = Text()
    text.append(f"hubbub {__version__}", style="bold")
    text.append(f": {escape(subject)}\n\n")
    for name, address in _addresses(listener, secure):
        text.append(f"  {name:<10}")
        text.append(f"{escape(address)}\n", style="cyan")
    text.append("\nCtrl+C stops it.\n")
    # soft_wrap: an address cut in two lines cannot be clicked.
    Console(file=sys.stdout, highlight=False).print(text, soft_wrap=True, end="")
    sys.stdout.flush()


def _addresses(listener: Listener, secure: bool) -> list[tuple[str, str]]:
    if listener.unix:
        return [("Unix", listener.location)]
    suffix = "s" if secure else ""
    return [
        ("page", f"http{suffix}://{listener.location}"),
        ("WebSocket", f"ws{suffix}://{listener.location}"),
    ]
