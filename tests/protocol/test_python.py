"""What the Python SDK's codecs write we read, and the other way round; its schema is ours."""

import importlib
import json as plain
from base64 import b64encode
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest

from hubbub.protocol import fossil, json, protobuf, schema
from hubbub.protocol.commands import Command
from hubbub.protocol.values import Message
from tests.protocol.conversations import COMMANDS, DATA, REPLIES
from tests.protocol.test_javascript import documents, put
from tests.tools import absent

BASE64 = b64encode(DATA.encode()).decode()


@pytest.fixture(scope="module")
def codecs() -> ModuleType:
    try:
        return importlib.import_module("centrifuge.codecs")
    except ImportError:
        absent("centrifuge-python is not installed: pip install centrifuge-python")


def describe(field: Any) -> tuple[object, ...]:
    return field.number, field.type, field.is_repeated


@pytest.mark.parametrize("kind", schema.NUMBERS)
def test_fields_are_those_of_the_sdk(codecs: ModuleType, kind: type[Message]) -> None:
    name = kind.__name__.removesuffix("Push") or "Push"
    theirs = codecs.protocol.DESCRIPTOR.message_types_by_name[name]
    ours = schema.wire_types()[kind].DESCRIPTOR

    # The SDK for Python has an older schema: it may lack a field, not have it otherwise.
    names = set(ours.fields_by_name)
    common = names & set(theirs.fields_by_name)

    assert names - common <= {"epoch", "profile", "tf", "time", "type"}
    for field in common:
        assert describe(ours.fields_by_name[field]) == describe(theirs.fields_by_name[field])


def test_json_commands(codecs: ModuleType) -> None:
    frame = codecs._JsonCodec.encode_commands(
        [put(wire, plain.loads(DATA)) for wire, _ in COMMANDS]
    )
    decoded = json.decode_commands(frame)

    assert [values(command) for _, command in COMMANDS] == [values(one) for one in decoded]


def test_protobuf_commands(codecs: ModuleType) -> None:
    frame = codecs._ProtobufCodec.encode_commands([put(wire, BASE64) for wire, _ in COMMANDS])

    assert [command for _, command in COMMANDS] == protobuf.decode_commands(frame)


def test_json_replies(codecs: ModuleType) -> None:
    frame = json.join(json.encode_reply(reply) for reply, _ in REPLIES)

    replies = codecs._JsonCodec.decode_replies(frame.decode())

    assert [put(wire, plain.loads(DATA)) for _, wire in REPLIES] == replies


def test_protobuf_replies(codecs: ModuleType) -> None:
    frame = protobuf.join(protobuf.encode_reply(reply) for reply, _ in REPLIES)

    replies = codecs._ProtobufCodec.decode_replies(frame)

    expected = [without_epochs(put(wire, BASE64)) for _, wire in REPLIES]

    assert expected == [numbers(reply) for reply in replies]


def test_patches(codecs: ModuleType) -> None:
    made = documents(30)
    for base, target in pairwise(made):
        patch = fossil.diff(base, target)
        assert patch is not None

        assert target == codecs.apply_delta(base, patch)


def values(command: Command) -> Any:
    """Return a command with its payloads parsed, since the SDK spells them in its own way."""
    return plain.loads(json.encode_command(command))


def without_epochs(value: Any) -> Any:
    """Drop the epoch of publications, which is newer than the Python SDK's schema."""
    if isinstance(value, dict):
        kept = {k: without_epochs(v) for k, v in value.items()}
        if "tags" in kept:
            del kept["epoch"]
        return kept
    return [without_epochs(item) for item in value] if isinstance(value, list) else value


def numbers(value: Any) -> Any:
    """Undo that the SDK's Protobuf codec has 64-bit integers as text."""
    if isinstance(value, dict):
        return {
            name: int(member) if name == "offset" else numbers(member)
            for name, member in value.items()
        }
    return [numbers(item) for item in value] if isinstance(value, list) else value
