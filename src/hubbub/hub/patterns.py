"""Patterns of channel names: which declaration a channel belongs to, and its parameters.

`chat:{room}` is a namespace with one parameter. A parameter takes everything up to the next colon
(`{name}`), digits (`{name:int}`), or the rest of the name, colons too (`{name:path}`).
"""

import re
from collections.abc import Mapping

__all__ = ["Pattern"]

_PARAMETER = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")
_KINDS = {"str": "[^:]+", "int": "[0-9]+", "path": ".+"}

# What hooks get by keyword beside the parameters.
RESERVED = frozenset({"client", "channel", "message", "code", "reason", "tags", "request"})


class Pattern:
    """A compiled pattern.

    Raises:
        ValueError: The pattern is empty, a brace stands alone, or a parameter's name or kind
            cannot be used.
    """

    __slots__ = ("_regex", "parameters", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.parameters: Mapping[str, type[int] | type[str]]
        self._regex, self.parameters = _compile(text)

    def match(self, channel: str) -> dict[str, str | int] | None:
        """Return the parameters of a channel's name; `None` if it is no channel of this pattern.

        Args:
            channel: Without the `$` that makes it private.
        """
        match = self._regex.fullmatch(channel)
        if match is None:
            return None
        return {name: kind(match[name]) for name, kind in self.parameters.items()}


def _compile(text: str) -> tuple[re.Pattern[str], dict[str, type[int] | type[str]]]:
    if not text:
        raise ValueError("a channel pattern must not be empty")
    if text.startswith("$"):
        raise ValueError(
            f"channel pattern {text!r}: leave out the $, any channel is private with one before it"
        )
    regex: list[str] = []
    parameters: dict[str, type[int] | type[str]] = {}
    at = 0
    for found in _PARAMETER.finditer(text):
        name, kind = found[1], "str" if found[2] is None else found[2]
        if not name.isidentifier() or name in RESERVED or name in parameters:
            raise ValueError(
                f"channel pattern {text!r}: {name!r} cannot be the name of a parameter; it must be "
                f"an identifier, once, and none of {', '.join(sorted(RESERVED))}"
            )
        if kind not in _KINDS:
            raise ValueError(f"channel pattern {text!r}: {kind!r} is none of {', '.join(_KINDS)}")
        regex += [_literal(text, at, found.start()), f"(?P<{name}>{_KINDS[kind]})"]
        parameters[name] = int if kind == "int" else str
        at = found.end()
    regex.append(_literal(text, at, len(text)))
    return re.compile("".join(regex), re.DOTALL), parameters


def _literal(text: str, start: int, end: int) -> str:
    part = text[start:end]
    if "{" in part or "}" in part:
        raise ValueError(f"channel pattern {text!r}: a brace stands alone in {part!r}")
    return re.escape(part)
