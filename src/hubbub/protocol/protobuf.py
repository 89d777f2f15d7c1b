"""The Protobuf format of the client protocol: messages with their length before them, as a varint.

Parsing and serializing is the official runtime's; here its messages become ours and back, by
plans made once at import. Needs the extra `protobuf`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import inspect, structs

from hubbub.errors import ProtocolViolation
from hubbub.protocol.commands import Command
from hubbub.protocol.replies import Push, Reply
from hubbub.protocol.values import EMPTY, Message, payload

try:
    from google.protobuf.message import DecodeError
    from google.protobuf.message import Message as WireMessage

    from hubbub.protocol import schema
except ImportError as exc:
    raise ImportError(
        "the Protobuf format needs an extra: pip install 'hubbub[protobuf]'", name=exc.name
    ) from exc

__all__ = [
    "BINARY",
    "PING",
    "decode_commands",
    "decode_replies",
    "embed",
    "encode_bare",
    "encode_command",
    "encode_push",
    "encode_reply",
    "join",
    "quote",
]

BINARY = True  # travels in binary frames
PING = b"\0"

_MAX_VARINT = 10  # bytes, of 64 bits
_LENGTHS = [bytes([length]) for length in range(0x80)]

_M = TypeVar("_M", bound=Message)
_Convert = Callable[[Any], Any]


def decode_commands(frame: bytes | str, *, max_size: int | None = None) -> list[Command]:
    """Decode what a client sent at once. Unknown fields are ignored.

    Args:
        frame: One or more commands, each after its length. The length 0 alone is a pong. A text
            frame stands for its bytes.
        max_size: Largest frame and largest declared length in bytes. `None`: the transport has
            seen to it, and a length is bounded by the frame.

    Returns:
        At least one command, in order.

    Raises:
        ProtocolViolation: The frame is empty, too large, truncated or not of commands.
    """
    return _decode(frame, Command, max_size)


def decode_replies(frame: bytes | str, *, max_size: int | None = None) -> list[Reply]:
    """Decode what a server sent at once, as a client does; the rules are the same."""
    return _decode(frame, Reply, max_size)


def encode_command(command: Command) -> bytes:
    """Encode a command with its length, as a client does."""
    return _encode(command)


def encode_reply(reply: Reply) -> bytes:
    """Encode a reply with its length."""
    return _encode(reply)


def encode_push(push: Push) -> bytes:
    """Encode a push in its reply with its length, for transports that go both ways."""
    return _encode(Reply(push=push))


def encode_bare(push: Push) -> bytes:
    """Encode a push without a reply, with its length, for unidirectional transports."""
    return _encode(push)


def join(encoded: Iterable[bytes]) -> bytes:
    """Join encoded messages into one frame; at least one, or the frame is malformed."""
    return b"".join(encoded)


def embed(data: bytes) -> msgspec.Raw:
    """Prepare a payload for messages in this format: any bytes will do."""
    return payload(data)


def quote(text: bytes) -> msgspec.Raw:
    """Prepare a payload or a patch for clients with delta on: it goes as it is."""
    return payload(text)


def _decode(frame: bytes | str, kind: type[_M], max_size: int | None) -> list[_M]:
    if isinstance(frame, str):
        frame = frame.encode(errors="replace")
    if not frame:
        raise ProtocolViolation("empty frame")
    if max_size is not None and len(frame) > max_size:
        raise ProtocolViolation(f"frame of {len(frame)} bytes, over max_size={max_size}")
    wire_type, decode = _WIRE_TYPES[kind], _DECODERS[kind]
    empty = kind()  # a ping or a pong, however many of them
    messages: list[_M] = []
    at = 0
    try:
        while at < len(frame):
            length, at = _read_length(frame, at)
            if max_size is not None and length > max_size:
                raise ProtocolViolation(f"message of {length} bytes, over max_size={max_size}")
            if length > len(frame) - at:
                raise ProtocolViolation(f"message of {length} bytes is truncated")
            if length:
                messages.append(decode(wire_type.FromString(frame[at : at + length])))
                at += length
            else:
                messages.append(empty)
    except (DecodeError, ValueError) as exc:
        # ValueError: fields that contradict each other, as our messages see it.
        raise ProtocolViolation(f"not a {kind.__name__} in Protobuf") from exc
    return messages


def _encode(message: Message) -> bytes:
    kind = type(message)
    body: bytes = _WIRE_TYPES[kind](**_ENCODERS[kind](message)).SerializeToString()
    length = len(body)
    if length < len(_LENGTHS):
        return _LENGTHS[length] + body
    varint = bytearray()
    while length >= 0x80:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    varint.append(length)
    return bytes(varint) + body


def _read_length(frame: bytes, at: int) -> tuple[int, int]:
    """Read a varint; return it and where it ends."""
    length = frame[at]
    if length < 0x80:
        return length, at + 1
    length = 0
    for place, byte in enumerate(frame[at : at + _MAX_VARINT]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return length, at + place + 1
    raise ProtocolViolation("length of a message is truncated or over 64 bits")


def _plan_decoder(kind: type[Message]) -> _Convert:
    """Return the function that makes our message of the runtime's.

    Only fields that are set are looked at. Fields without a default are written in JSON though
    zero and are absent from Protobuf then, so they get their zero here.
    """
    fields = _fields(kind)
    convert = {field.name: _converter(field.type, _DECODERS, payload) for field in fields}
    required = {field.name: _zero(field.type) for field in fields if field.required}

    def decode(wire: WireMessage) -> Message:
        found = {
            field.name: value if (made := convert[field.name]) is None else made(value)
            for field, value in wire.ListFields()
        }
        return kind(**(required | found)) if required else kind(**found)

    return decode


def _plan_encoder(kind: type[Message]) -> _Convert:
    """Return the function that makes the runtime's arguments of our message.

    Fields within fields are dicts: the runtime copies a message that is given to another.
    """
    plan = [(field.name, _converter(field.type, _ENCODERS, bytes)) for field in _fields(kind)]

    def encode(message: Message) -> dict[str, Any]:
        return {
            name: value if made is None else made(value)
            for (name, made), value in zip(plan, structs.astuple(message), strict=True)
            if value and value is not EMPTY
        }

    return encode


def _converter(
    kind: inspect.Type, planned: Mapping[type, _Convert], convert_payload: _Convert
) -> _Convert | None:
    """Return what is done to a field's value on its way; `None`: nothing.

    Plans are looked up when they run, since messages contain each other.
    """
    match kind:
        case inspect.UnionType((inspect.StructType(cls), inspect.NoneType())):
            return lambda value: planned[cls](value)
        case inspect.StructType(cls):
            return lambda value: planned[cls](value)
        case inspect.VarTupleType(item_type):
            item = _converter(item_type, planned, convert_payload)
            return tuple if item is None else lambda value: tuple(map(item, value))
        case inspect.DictType(_, value_type):
            made = _converter(value_type, planned, convert_payload)
            if made is None:
                return dict
            return lambda value: {key: made(item) for key, item in value.items()}
        case inspect.RawType():
            return convert_payload
    return None


def _zero(kind: inspect.Type) -> object:
    match kind:
        case inspect.StrType():
            return ""
        case inspect.IntType():
            return 0
        case inspect.VarTupleType():
            return ()
        case inspect.DictType():
            return {}
        case inspect.StructType(cls):
            return _DECODERS[cls](_WIRE_TYPES[cls]())
    raise TypeError(f"no zero for {kind}")


def _fields(kind: type[Message]) -> tuple[inspect.Field, ...]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return info.fields


_WIRE_TYPES: Mapping[type, type[WireMessage]] = schema.wire_types()
_DECODERS: dict[type, _Convert] = {}
_ENCODERS: dict[type, _Convert] = {}
for _kind in schema.NUMBERS:
    _DECODERS[_kind] = _plan_decoder(_kind)
    _ENCODERS[_kind] = _plan_encoder(_kind)
