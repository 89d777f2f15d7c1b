"""Names of keys and pub/sub channels: those of one hubbub channel live in one slot of a cluster."""

from __future__ import annotations

from redis.crc import key_slot

__all__ = ["CONTROL", "SLOTS", "Names", "slot_of"]

SLOTS = 16_384

CONTROL = "%control"
"""Tag of the stream of control messages. No channel has it: `%` in their names is escaped."""


class Names:
    """Names below a prefix, as `prefix:{tag}:what`.

    A cluster places a key by what is between its first `{` and the next `}`, if that is not empty
    (https://valkey.io/topics/cluster-spec/#hash-tags): the tag is a channel's name, escaped so
    that it has no `}` and is not empty.

    Args:
        db: Pub/sub has one name space for all databases, so the number is in its names.
    """

    def __init__(self, prefix: str, db: int) -> None:
        self._keys = prefix.encode() + b":{"
        self._channels = (prefix if not db else f"{prefix}/{db}").encode() + b":{"

    def tag(self, channel: str) -> str:
        """Return what stands for a channel in names."""
        return channel.replace("%", "%25").replace("}", "%7D") or "%"

    def key(self, tag: str, what: bytes) -> bytes:
        """Return the name of one of a channel's keys."""
        return b"%b%b}:%b" % (self._keys, tag.encode(), what)

    def topic(self, tag: str) -> bytes:
        """Return the name of a channel in pub/sub."""
        return b"%b%b}" % (self._channels, tag.encode())


def slot_of(name: bytes) -> int:
    """Return the slot of a key or of a sharded channel."""
    return key_slot(name, SLOTS)
