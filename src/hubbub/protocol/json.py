"""The JSON format of the client protocol: one object a line.

Payloads are embedded JSON and keep their text: number spelling, order of keys, spaces. Only line
ends are taken out of them, since lines are what frames are cut at; JSON allows none inside of
strings, so that none of these can be data.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from hubbub.errors import PayloadError, ProtocolViolation
from hubbub.protocol.commands import Command
from hubbub.protocol.replies import Push, Reply
from hubbub.protocol.values import EMPTY, Message

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
    "unquote",
]

BINARY = False  # travels in text frames
PING = b"{}"

# Members named so are payloads: a null in one is a value.
_PAYLOAD = "data"

# Deeper than any message of the protocol that is not refused anyway, and few enough that looking
# for nulls in a frame of nested brackets stays linear.
_MAX_NULL_DEPTH = 24

_M = TypeVar("_M", bound=Message)
_command = msgspec.json.Decoder(Command)
_reply = msgspec.json.Decoder(Reply)
_raw = msgspec.json.Decoder(msgspec.Raw)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items = msgspec.json.Decoder(list[msgspec.Raw])
_text = msgspec.json.Decoder(str)
_encoder = msgspec.json.Encoder()


def decode_commands(frame: bytes | str, *, max_size: int | None = None) -> list[Command]:
    """Decode what a client sent at once.

    Fields that are unknown are ignored, fields that are null are absent. A null payload (`data`)
    is kept, as any JSON value.

    Args:
        frame: One command a line; one line end after the last is allowed.
        max_size: Largest frame in bytes. `None`: the transport has seen to it.

    Returns:
        At least one command, in order. Payloads are valid JSON in valid UTF-8 without line ends.

    Raises:
        ProtocolViolation: The frame or a line is empty, too large, not JSON or not a command.
    """
    return _decode(frame, _command, max_size)


def decode_replies(frame: bytes | str, *, max_size: int | None = None) -> list[Reply]:
    """Decode what a server sent at once, as a client does; the rules are the same."""
    return _decode(frame, _reply, max_size)


def encode_command(command: Command) -> bytes:
    """Encode a command without a line end, as a client does."""
    return _encoder.encode(command)


def encode_reply(reply: Reply) -> bytes:
    """Encode a reply without a line end.

    Payloads are trusted: whatever did not come from `decode_commands` goes through `embed` first.
    """
    return _encoder.encode(reply)


def encode_push(push: Push) -> bytes:
    """Encode a push in its reply, for transports that go both ways; payloads are trusted."""
    return b'{"push":%b}' % _encoder.encode(push)


def encode_bare(push: Push) -> bytes:
    """Encode a push without a reply, for unidirectional transports; payloads are trusted."""
    return _encoder.encode(push)


def join(encoded: Iterable[bytes]) -> bytes:
    """Join encoded messages into one frame; at least one, or the frame is malformed."""
    return b"\n".join(encoded)


def embed(payload: bytes) -> msgspec.Raw:
    """Prepare a payload that did not come from a JSON client for messages in this format.

    Args:
        payload: JSON text in UTF-8; nothing at all is an absent payload.

    Returns:
        The same text without line ends.

    Raises:
        PayloadError: The payload is not JSON, or not UTF-8.
    """
    if not payload:
        return EMPTY
    try:
        _check_utf8(payload)
        raw = _raw.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as exc:
        raise PayloadError(_problem(exc)) from exc
    if b"\n" in payload or b"\r" in payload:
        return msgspec.Raw(_strip_line_ends(bytes(raw)))
    return raw


def quote(text: bytes) -> msgspec.Raw:
    """Wrap a payload or a patch in a JSON string, as clients with delta on expect it.

    Raises:
        PayloadError: The text is not UTF-8.
    """
    try:
        return msgspec.Raw(_encoder.encode(text.decode()))
    except UnicodeDecodeError as exc:
        raise PayloadError(_problem(exc)) from exc


def unquote(payload: msgspec.Raw) -> bytes:
    """Take a payload or a patch out of its JSON string, as a client with delta on does.

    Raises:
        ProtocolViolation: The payload is not a JSON string.
    """
    try:
        return _text.decode(payload).encode()
    except (msgspec.DecodeError, UnicodeError) as exc:
        raise ProtocolViolation(_problem(exc)) from exc


def _decode(
    frame: bytes | str, decoder: "msgspec.json.Decoder[_M]", max_size: int | None
) -> list[_M]:
    try:
        if isinstance(frame, str):
            frame = frame.encode()
        else:
            _check_utf8(frame)
        if max_size is not None and len(frame) > max_size:
            raise ProtocolViolation(f"frame of {len(frame)} bytes, over max_size={max_size}")
        if b"\n" not in frame:
            return [_decode_line(frame, decoder)]
        return [_decode_line(line, decoder) for line in frame.removesuffix(b"\n").split(b"\n")]
    except (msgspec.DecodeError, RecursionError, UnicodeError) as exc:
        raise ProtocolViolation(_problem(exc)) from exc


def _decode_line(line: bytes, decoder: "msgspec.json.Decoder[_M]") -> _M:
    try:
        message = decoder.decode(line)
    except msgspec.ValidationError:
        if b"null" not in line:
            raise
        line = _encoder.encode(_without_nulls(msgspec.Raw(line), 0))
        message = decoder.decode(line)
    if b"\r" in line:
        # Valid JSON has it between tokens only, but an event stream would break at it.
        return decoder.decode(_strip_line_ends(line))
    return message


def _without_nulls(value: msgspec.Raw, depth: int) -> Any:
    """Return a copy without null members, down to payloads and values that cannot have any.

    On this path are frames that did not fit their type only, since types say no to nulls.
    """
    head = bytes(value).lstrip()[:1]
    if depth == _MAX_NULL_DEPTH:
        return value
    if head == b"{":
        return {
            name: member if name == _PAYLOAD else _without_nulls(member, depth + 1)
            for name, member in _members.decode(value).items()
            if name == _PAYLOAD or bytes(member) != b"null"
        }
    if head == b"[":
        return [_without_nulls(item, depth + 1) for item in _items.decode(value)]
    return value


def _check_utf8(data: bytes) -> None:
    """Raise `UnicodeDecodeError` for what is not UTF-8: msgspec skips payloads without looking."""
    if not data.isascii():
        data.decode()


def _strip_line_ends(text: bytes) -> bytes:
    """Remove line ends from valid JSON, where they stand between tokens only."""
    return text.replace(b"\n", b"").replace(b"\r", b"")


def _problem(exc: Exception) -> str:
    """Say what is wrong without a word of what the peer sent."""
    if isinstance(exc, UnicodeError):
        return "not UTF-8"
    if isinstance(exc, RecursionError):
        return "nested too deeply"
    return str(exc)
