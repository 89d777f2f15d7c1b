"""Messages, payloads and damaged frames for the property tests.

Messages are made from the types of their fields, so that a new message or field is tested at once.
"""

import json
from typing import Any

from hypothesis import strategies as st
from msgspec import inspect

from hubbub.protocol import commands, replies, schema
from hubbub.protocol.commands import Command
from hubbub.protocol.replies import Push, Reply
from hubbub.protocol.values import EMPTY, Error, Message, payload

__all__ = ["COMMANDS", "MESSAGES", "binary", "damaged", "json_texts", "messages", "texts"]

MESSAGES = list(schema.NUMBERS)
COMMANDS = [message for message in MESSAGES if message.__module__ == commands.__name__]

texts = st.text(max_size=12)
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def json_texts(draw: st.DrawFn) -> bytes:
    """JSON in UTF-8 without line ends, spelled in various ways."""
    value = draw(json_values)
    separators = draw(st.sampled_from([(",", ":"), (", ", " : ")]))
    return json.dumps(value, ensure_ascii=draw(st.booleans()), separators=separators).encode()


binary = st.binary(max_size=24)

# What some messages ask of a field beyond its type.
SPECIAL: dict[tuple[type[Message], str], st.SearchStrategy[Any]] = {
    (Error, "message"): st.text(min_size=1, max_size=12),
    **{
        (kind, field): strategy
        for kind in (replies.UnsubscribePush, replies.DisconnectPush)
        for field, strategy in [
            ("code", st.integers(1, 2**32 - 1)),
            ("reason", st.text(min_size=1, max_size=12)),
        ]
    },
}


def messages(
    kind: type[Message], payloads: st.SearchStrategy[bytes], depth: int = 3
) -> st.SearchStrategy[Any]:
    """Messages of a kind; below the depth, fields keep their defaults.

    Of the alternatives that a command, a reply or a push has, at most two are there at once.
    """
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    fields = {
        field.name: special
        if (special := SPECIAL.get((kind, field.name))) is not None
        else values(field.type, payloads, depth - 1)
        for field in info.fields
        if field.required or depth > 0
    }
    required = {field.name: fields.pop(field.name) for field in info.fields if field.required}
    if fields.pop("ttl", None) is not None:
        required["ttl"] = st.integers(1, 2**32 - 1)
    if kind not in (Command, Reply, Push):
        return st.fixed_dictionaries(required, optional=fields).map(lambda found: kind(**found))
    always = {name: fields.pop(name) for name in ("id", "channel") if name in fields}
    return (
        st.lists(st.sampled_from(list(fields)), max_size=2, unique=True)
        .flatmap(lambda names: st.fixed_dictionaries(always | {n: fields[n] for n in names}))
        .map(lambda found: kind(**found))
    )


def values(
    kind: inspect.Type, payloads: st.SearchStrategy[bytes], depth: int
) -> st.SearchStrategy[Any]:
    match kind:
        case inspect.IntType():
            assert kind.ge is not None
            most = 2**64 - 1 if kind.le is None else kind.le
            return st.sampled_from([kind.ge, most]) | st.integers(kind.ge, most)
        case inspect.StrType():
            return texts
        case inspect.BoolType():
            return st.booleans()
        case inspect.RawType():
            return st.just(EMPTY) | payloads.map(payload)
        case inspect.UnionType((inspect.StructType() as struct, inspect.NoneType())):
            return st.none() | values(struct, payloads, depth)
        case inspect.StructType(cls):
            assert issubclass(cls, Message)
            return messages(cls, payloads, depth)
        case inspect.VarTupleType(item):
            if depth < 0:
                return st.just(())
            return st.lists(values(item, payloads, depth), max_size=2).map(tuple)
        case inspect.DictType(_, value):
            return st.dictionaries(texts, values(value, payloads, depth), max_size=2)
    raise AssertionError(kind)


@st.composite
def damaged(draw: st.DrawFn, frames: st.SearchStrategy[bytes]) -> bytes:
    """Frames with a few bytes changed, cut out, repeated or put in."""
    frame = bytearray(draw(frames))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(frame)))
        until = min(len(frame), at + draw(st.integers(0, 8)))
        match draw(st.sampled_from(["change", "cut", "repeat", "insert", "end"])):
            case "change" if at < len(frame):
                frame[at] = draw(st.integers(0, 255))
            case "cut":
                del frame[at:until]
            case "repeat":
                frame[at:at] = frame[at:until]
            case "end":
                del frame[at:]
            case _:
                frame[at:at] = draw(st.sampled_from([b"null", b"[", b"{", b'"', b"\n", b"\xff"]))
    return bytes(frame)
