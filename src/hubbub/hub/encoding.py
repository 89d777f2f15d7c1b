"""Publications, joins and leaves as clients get them, in one wire format."""

from collections.abc import Iterable, Iterator

import msgspec

from hubbub.model import ClientInfo, Join, Leave, Publication
from hubbub.protocol import fossil, values
from hubbub.protocol.base import Codec
from hubbub.protocol.replies import JoinPush, LeavePush, Push
from hubbub.protocol.values import payload

__all__ = ["encode_event", "encode_patch", "wire_info", "wire_patches", "wire_publication"]


def wire_info(info: ClientInfo) -> values.ClientInfo:
    """Make a message of what others see of a client."""
    return values.ClientInfo(
        user=info.user,
        client=info.client,
        conn_info=payload(info.conn_info),
        chan_info=payload(info.chan_info),
    )


def wire_publication(codec: Codec, publication: Publication, *, binary: bool) -> values.Publication:
    """Make a message of a publication that is part of a result.

    Args:
        binary: The payload may be anything; else it is JSON that was checked when it came in.

    Raises:
        PayloadError: The wire format cannot carry the payload.
    """
    data = publication.data
    return values.Publication(
        data=codec.embed(data) if binary else payload(data),
        info=None if publication.info is None else wire_info(publication.info),
        offset=publication.offset,
        tags=publication.tags,
    )


def wire_patches(codec: Codec, publications: Iterable[Publication]) -> Iterator[values.Publication]:
    """Make messages of consecutive publications for a client with delta on.

    The first is whole; each other is a patch of the one before it, where that is shorter.

    Raises:
        PayloadError: The format is JSON and a payload is no text.
    """
    base: bytes | None = None
    for publication in publications:
        patch = fossil.diff(base, publication.data) if base is not None else None
        base = publication.data
        yield values.Publication(
            data=codec.quote(base if patch is None else patch),
            info=None if publication.info is None else wire_info(publication.info),
            offset=publication.offset,
            tags=publication.tags,
            delta=patch is not None,
        )


def encode_event(
    codec: Codec,
    channel: str,
    event: Publication | Join | Leave,
    *,
    binary: bool,
    quoted: bool = False,
) -> bytes:
    """Encode what happened in a channel as a push.

    Raises:
        PayloadError: As `wire_publication`.
    """
    match event:
        case Publication():
            data = event.data
            raw = codec.quote(data) if quoted else codec.embed(data) if binary else payload(data)
            return _encode_publication(codec, channel, event, raw, delta=False)
        case Join():
            return codec.encode_push(Push(channel=channel, join=JoinPush(wire_info(event.info))))
        case Leave():
            return codec.encode_push(Push(channel=channel, leave=LeavePush(wire_info(event.info))))


def encode_patch(codec: Codec, channel: str, publication: Publication, patch: bytes) -> bytes:
    """Encode a publication as a patch of the one before it, for clients with delta on.

    Raises:
        PayloadError: The format is JSON and the patch is no text.
    """
    return _encode_publication(codec, channel, publication, codec.quote(patch), delta=True)


def _encode_publication(
    codec: Codec, channel: str, publication: Publication, data: msgspec.Raw, *, delta: bool
) -> bytes:
    offset = publication.offset
    message = values.Publication(
        data=data,
        info=None if publication.info is None else wire_info(publication.info),
        offset=offset,
        tags=publication.tags,
        delta=delta,
        # Lets a client learn the epoch that subscribed without a position.
        epoch=publication.epoch if offset == 1 else "",
    )
    return codec.encode_push(Push(channel=channel, pub=message))
