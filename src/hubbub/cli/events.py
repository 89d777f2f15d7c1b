"""What happens in a channel, written on one line: for people, or as JSON for programs."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

import msgspec

from hubbub.cli.escape import escape, escape_json
from hubbub.protocol.values import ClientInfo, Publication

__all__ = ["Event", "Kind", "describe", "serialize"]

# Characters of a connection's id that tell anonymous users apart.
_SHOWN_ID: Final = 8

Part = tuple[str, str]
"""Text that is safe for a terminal, and its style there."""


class Kind(StrEnum):
    """What can happen."""

    PUBLICATION = "publication"
    JOIN = "join"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a channel.

    Attributes:
        at: When it happened, Unix time in seconds, before the year 10000; `None`: not known.
        info: Who did it; `None`: the server.
        publication: Only of a publication.
    """

    kind: Kind
    channel: str
    at: float | None
    info: ClientInfo | None
    publication: Publication | None = None

    @property
    def size(self) -> int:
        """Length of the payload in bytes."""
        return 0 if self.publication is None else len(bytes(self.publication.data))


_MARKS: Final[dict[Kind, Part]] = {
    Kind.PUBLICATION: (">", "bold"),
    Kind.JOIN: ("+", "bold green"),
    Kind.LEAVE: ("-", "bold red"),
}


def describe(event: Event, width: int = 0) -> list[Part]:
    """Write an event for people: time, channel, offset, mark, user, payload.

    Args:
        width: Least number of columns for the channel.
    """
    publication = event.publication
    offset = f" #{publication.offset}" if publication is not None and publication.offset else ""
    parts = [
        ("--:--:--" if event.at is None else _local_time(int(event.at)), "dim"),
        (f" {escape(event.channel):<{width}}", "cyan"),
        (offset, "dim"),
        (" ", ""),
        _MARKS[event.kind],
    ]
    if event.info is not None:
        colon = "" if publication is None else ":"
        parts.append((f" {_name(event.info)}{colon}", "bold"))
    if publication is not None:
        parts.append((f" {escape(_compact(publication.data).decode())}", ""))
    return parts


def serialize(event: Event) -> str:
    """Write an event as a JSON object; what is not known is left out."""
    members: dict[str, Any] = {"channel": event.channel, "kind": event.kind}
    if event.at is not None:
        moment = datetime.fromtimestamp(event.at, UTC)
        members["time"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if event.publication is not None:
        if event.publication.offset:
            members["offset"] = event.publication.offset
        if bytes(event.publication.data):
            members["data"] = msgspec.Raw(_compact(event.publication.data))
        if event.publication.tags:
            members["tags"] = event.publication.tags
    if event.info is not None:
        members |= {"user": event.info.user, "client": event.info.client}
        for name in ("conn_info", "chan_info"):
            info: msgspec.Raw = getattr(event.info, name)
            if bytes(info):
                members[name] = msgspec.Raw(_compact(info))
    text = msgspec.json.encode(members).decode()
    return text if text.isascii() and text.isprintable() else escape_json(text)


def _compact(payload: msgspec.Raw) -> bytes:
    """Return a payload without spaces between its tokens; numbers and keys stay as they are."""
    text = bytes(payload)
    if not text:
        return text
    try:
        return msgspec.json.format(text, indent=-1)
    except RecursionError:
        # Nested as deep as the decoder allowed, which was a few calls less deep than here.
        return text.replace(b"\t", b" ")


def _name(info: ClientInfo) -> str:
    return escape(info.user) if info.user else f"({escape(info.client[:_SHOWN_ID])})"


@lru_cache(maxsize=16)
def _local_time(at: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
