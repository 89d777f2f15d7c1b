"""Publications, joins, leaves and presence as bytes, and the envelopes in which they travel."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hubbub.brokers.base import Event
from hubbub.model import ClientInfo, Join, Leave, Publication

__all__ = [
    "decode_event",
    "decode_presence",
    "decode_publication",
    "encode_announcement",
    "encode_presence",
    "encode_publication",
]

# The first byte of a message. A publication with a position has `epoch offset ` before its body:
# the script that gives out the offset puts it there.
POSITIONED = b"p"
PLAIN = b"q"
JOIN = b"j"
LEAVE = b"l"

_Info = tuple[str, str, bytes, bytes]


class _Body(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A publication without its position. As an array: fields of a later version come last."""

    data: bytes
    info: _Info | None
    tags: Mapping[str, str]
    delta: bool
    time: int


_encoder = msgspec.msgpack.Encoder()
_bodies = msgspec.msgpack.Decoder(_Body)
_infos = msgspec.msgpack.Decoder(_Info)


def encode_publication(publication: Publication) -> bytes:
    """Encode a publication without its position."""
    info = publication.info
    return _encoder.encode(
        _Body(
            publication.data,
            None if info is None else _fields(info),
            publication.tags,
            publication.delta,
            publication.time,
        )
    )


def decode_publication(body: bytes, epoch: str, offset: int) -> Publication:
    """Decode what `encode_publication` made, and put it in its place.

    Raises:
        ValueError: It is something else.
    """
    fields = _bodies.decode(body)
    info = None if fields.info is None else ClientInfo(*fields.info)
    return Publication(fields.data, info, fields.tags, fields.delta, offset, epoch, fields.time)


def encode_presence(info: ClientInfo) -> bytes:
    """Encode who is present; scripts count users, so the user comes first: `3:ada` and the rest."""
    user = info.user.encode()
    return b"%d:%b" % (len(user), user) + _encoder.encode(_fields(info))


def decode_presence(data: bytes) -> ClientInfo:
    """Decode what `encode_presence` made.

    Raises:
        ValueError: It is something else.
    """
    length, _, rest = data.partition(b":")
    return _decode_info(rest[int(length) :])


def encode_announcement(event: Join | Leave) -> bytes:
    """Encode a message that tells of a join or leave."""
    return (JOIN if isinstance(event, Join) else LEAVE) + _encoder.encode(_fields(event.info))


def decode_event(message: bytes) -> Event:
    """Decode a message of a channel.

    Raises:
        ValueError: It is none; so is what msgspec raises.
    """
    kind, rest = message[:1], message[1:]
    if kind == POSITIONED:
        epoch, offset, body = rest.split(b" ", 2)
        return decode_publication(body, epoch.decode(), int(offset))
    if kind == PLAIN:
        return decode_publication(rest, "", 0)
    if kind == JOIN:
        return Join(_decode_info(rest))
    if kind == LEAVE:
        return Leave(_decode_info(rest))
    raise ValueError("a message of an unknown kind")


def _decode_info(data: bytes) -> ClientInfo:
    return ClientInfo(*_infos.decode(data))


def _fields(info: ClientInfo) -> _Info:
    return info.user, info.client, info.conn_info, info.chan_info
