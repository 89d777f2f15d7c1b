"""Headers that a person adds to a handshake: the option, and what may be in one."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final

import typer

from hubbub.cli.failure import USAGE, Failure

__all__ = ["TOKEN", "HeaderOption", "is_header_value", "parse_header"]

TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""What names in a head are made of (RFC 9110 §5.6.2)."""

# Headers of the handshake itself; a second one would break it (RFC 6455 §4.1).
_OWN_HEADERS: Final = frozenset({"host", "connection", "upgrade", "origin"})

HeaderOption = Annotated[
    list[str] | None,
    typer.Option(help="Header of the handshake, 'Name: value'. Repeatable."),
]


def parse_header(text: str, options: Mapping[str, str] = MappingProxyType({})) -> tuple[str, str]:
    """Read `Name: value`.

    Args:
        options: Those of the command that set a header themselves, by its name in lower case.

    Raises:
        Failure: It is no header, or one that the handshake sets.
    """
    name, colon, value = text.partition(":")
    if not colon or not TOKEN.fullmatch(name) or not is_header_value(value):
        raise Failure(f"--header: '{text}' is not of the form 'Name: value'", USAGE)
    if name.lower() in _OWN_HEADERS or name.lower().startswith("sec-websocket-"):
        option = options.get(name.lower())
        hint = "the handshake sets it" if option is None else f"use {option}"
        raise Failure(f"--header: '{name}' cannot be given: {hint}", USAGE)
    return name, value.strip()


def is_header_value(value: str) -> bool:
    """Tell whether a text can stand in a head, spaces around it aside."""
    return value.isascii() and all(character.isprintable() for character in value.strip())
