r"""Text from strangers made safe for a terminal and for a log: invisible characters made visible.

A terminal obeys control characters (C0 and C1, ECMA-48), so a message could clear the screen or
set the clipboard; a line break would forge a line of a log; bidirectional overrides and zero-width
characters make text read as something else (Unicode TR 36 §3.2, CVE-2021-42574). Each becomes its
Python escape: `\n`, `\x1b`, `\u202e`. A backslash stays as it is, so JSON stays JSON.
"""

import unicodedata
from typing import Final

__all__ = ["escape", "escape_json", "is_safe"]

# Cc control, Cf format (bidi, zero width, tags), Cs surrogate (no UTF-8), Zl and Zp line breaks.
_UNSAFE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

# Format characters that honest text needs: soft hyphen, the joiners of Persian and of emoji, and
# the Arabic, Syriac, Kaithi signs that are printed.
_PRINTED_FORMATS: Final = frozenset(
    "\u00ad\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2"
    "\U000110bd\U000110cd"
)


def is_safe(character: str) -> bool:
    """Tell whether a terminal shows this one character as itself and does nothing else."""
    return (
        unicodedata.category(character) not in _UNSAFE_CATEGORIES or character in _PRINTED_FORMATS
    )


class _Escapes(dict[int, str]):
    """Map code points to what `str.translate` puts there, worked out once for each."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = shown = character if is_safe(character) else self.escaped(character)
        return shown

    def escaped(self, character: str) -> str:
        return character.encode("unicode_escape").decode("ascii")


class _JsonEscapes(_Escapes):
    """The same with the escapes of JSON, which has only `uXXXX` (RFC 8259 §7)."""

    def escaped(self, character: str) -> str:
        code = ord(character)
        if code < 0x10000:
            return f"\\u{code:04x}"
        high, low = divmod(code - 0x10000, 0x400)
        return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


_ESCAPES = _Escapes()
_JSON_ESCAPES = _JsonEscapes()


def escape(text: str) -> str:
    r"""Return `text` on one line, with every unsafe character as its Python escape.

    What is returned is safe, encodes as UTF-8, and is `text` itself if that was safe.
    """
    return text if text.isascii() and text.isprintable() else text.translate(_ESCAPES)


def escape_json(serialized: str) -> str:
    r"""Return serialized JSON with every unsafe character as `\uXXXX`; it means the same.

    Args:
        serialized: JSON on one line. Unsafe characters can then only stand inside of strings.
    """
    return serialized.translate(_JSON_ESCAPES)
