"""What to think of a token that a person shows to `hubbub token inspect`, and how it is told."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from hubbub.auth.claims import Expected, read_connection, read_subscription
from hubbub.auth.jws import parse
from hubbub.auth.tokens import Tokens, UncheckedToken
from hubbub.cli.escape import escape, escape_json
from hubbub.cli.loops import run_async
from hubbub.errors import InvalidToken, TokenExpired

__all__ = ["Verdict", "judge", "report", "show"]

# Claims that are times, in Unix seconds.
_TIMES: Final = ("exp", "nbf", "iat", "expire_at")

_UNITS: Final = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to think of a token.

    Attributes:
        accepted: Whether nothing is known that speaks against it.
        result: `valid`, `not checked`, `expired`, `not valid yet` or `invalid`.
        signature: `right`, `wrong` or `not checked`.
        problem: Why it is not accepted; `None`: it is.
    """

    accepted: bool
    result: str
    signature: str
    problem: str | None = None


def judge(token: str, claims: Mapping[str, Any], tokens: Tokens | None, now: float) -> Verdict:
    """Check a token.

    Args:
        claims: What it says.
        tokens: What checks its signature. `None`: nothing does.
        now: Unix time in seconds.

    Raises:
        KeysUnavailable: The key set cannot be fetched.
    """
    try:
        payload = parse(token).payload if tokens is None else run_async(tokens.verify(token))
    except InvalidToken as exc:
        return Verdict(False, "invalid", "not checked" if tokens is None else "wrong", exc.problem)
    signature = "not checked" if tokens is None else "right"
    read = read_subscription if claims.get("channel") else read_connection
    try:
        read(payload, Expected(), now)
    except TokenExpired as exc:
        exp = _number(claims.get("exp"))
        is_early = exp is None or now < exp
        return Verdict(False, "not valid yet" if is_early else "expired", signature, exc.problem)
    except InvalidToken as exc:
        return Verdict(False, "invalid", signature, exc.problem)
    return Verdict(True, "not checked" if tokens is None else "valid", signature)


def report(found: UncheckedToken, verdict: Verdict, now: float) -> dict[str, Any]:
    """Return all that is known of a token, for JSON."""
    exp = _number(found.claims.get("exp"))
    return {
        "kind": "subscription" if found.claims.get("channel") else "connection",
        "header": found.header,
        "claims": found.claims,
        "signature": verdict.signature,
        "verdict": verdict.result,
        "problem": verdict.problem,
        "expires_in_seconds": None if exp is None else round(exp - now, 3),
    }


def show(found: UncheckedToken, verdict: Verdict, now: float) -> None:
    """Print all that is known of a token, for a person."""
    console = Console(file=sys.stdout, highlight=False)
    kind = "subscription" if found.claims.get("channel") else "connection"
    lines = [("kind", f"{kind} token")]
    lines += [(f"header {name}", _shown_json(value)) for name, value in found.header.items()]
    for name, value in found.claims.items():
        at = _number(value) if name in _TIMES else None
        shown = _shown_json(value)
        lines.append((f"claim {name}", shown if at is None else f"{shown}  {_shown_time(at, now)}"))
    lines.append(("signature", verdict.signature))
    width = max(len(escape(label)) for label, _ in lines)
    for label, text in lines:
        line = Text.assemble((escape(label).ljust(width), "dim"), "  ", text)
        console.print(line, soft_wrap=True)
    result = {"valid": "bold green", "not checked": "bold yellow"}.get(verdict.result, "bold red")
    console.print(
        Text.assemble(("verdict".ljust(width), "dim"), "  ", (verdict.result, result)),
        Text(_remark(found, verdict, now)),
        soft_wrap=True,
    )


def _remark(found: UncheckedToken, verdict: Verdict, now: float) -> str:
    exp = _number(found.claims.get("exp"))
    if verdict.result == "expired" and exp is not None:
        return f"since {_shown_duration(now - exp)}"
    if verdict.problem is not None:
        return f"({escape(verdict.problem)})"
    left = "for ever" if exp is None else f"for {_shown_duration(exp - now)}"
    if verdict.result == "not checked":
        return f"(no key was given; would be valid {left})"
    return left


def _shown_json(value: Any) -> str:
    return escape_json(json.dumps(value, ensure_ascii=False))


def _shown_time(at: float, now: float) -> str:
    distance = _shown_duration(abs(at - now))
    relative = f"in {distance}" if at > now else f"{distance} ago"
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC, {relative}"
    except (OverflowError, ValueError, OSError):  # no year that has four digits
        return relative


def _shown_duration(seconds: float) -> str:
    """Say a time in its two largest units, rounded down."""
    left = int(seconds)
    counts = []
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, _UNITS[unit])
        counts.append(f"{count}{unit}")
    first = next((at for at, count in enumerate(counts) if not count.startswith("0")), 3)
    return " ".join(counts[first : first + 2])


def _number(value: object) -> float | None:
    """Return a claim that is a time, which in an unchecked token can be anything."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
