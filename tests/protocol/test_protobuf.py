"""The Protobuf format: what is decoded, what is refused, and that nothing is changed on the way."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.errors import ProtocolViolation
from hubbub.protocol import protobuf, schema
from hubbub.protocol.commands import Command, ConnectRequest, PublishRequest, SubscribeRequest
from hubbub.protocol.replies import Push, Reply
from hubbub.protocol.results import ConnectResult, HistoryResult, PublishResult
from hubbub.protocol.values import Error, Message, Publication, payload
from tests.protocol.strategies import MESSAGES, binary, damaged, messages

command_frames = st.lists(messages(Command, binary), min_size=1, max_size=3).map(
    lambda found: protobuf.join(map(protobuf.encode_command, found))
)


def test_command_examples_of_the_protocol() -> None:
    wire = bytes.fromhex(
        "0b 08 01 22 07 0a 01 74 22 02 6a 73 0c 08 03 2a 08 0a 04 6e 65 77 73 70 01"
    )
    commands = [
        Command(1, connect=ConnectRequest(token="t", name="js")),
        Command(3, subscribe=SubscribeRequest("news", flag=1)),
    ]

    assert commands == protobuf.decode_commands(wire)
    assert wire == protobuf.join(map(protobuf.encode_command, commands))


@pytest.mark.parametrize(
    ("wire", "reply"),
    [
        (
            "0f 08 01 2a 0b 0a 02 61 62 12 01 31 38 19 40 01",
            Reply(1, connect=ConnectResult("ab", "1", ping=25, pong=True)),
        ),
        (
            "0d 22 0b 12 01 63 22 06 22 02 7b 7d 30 01",
            Reply(push=Push("c", Publication(payload(b"{}"), offset=1))),
        ),
        (
            "15 08 02 12 11 08 6d 12 0d 74 6f 6b 65 6e 20 65 78 70 69 72 65 64",
            Reply(2, error=Error(109, "token expired")),
        ),
        ("00", Reply()),
        ("04 08 07 42 00", Reply(7, publish=PublishResult())),
        ("04 08 07 5a 00", Reply(7, history=HistoryResult((), "", 0))),
    ],
)
def test_reply_examples_of_the_protocol(wire: str, reply: Reply) -> None:
    assert bytes.fromhex(wire) == protobuf.encode_reply(reply)
    assert [reply] == protobuf.decode_replies(bytes.fromhex(wire))


def test_ping_and_pong_are_messages_of_no_length() -> None:
    assert protobuf.encode_reply(Reply()) == protobuf.PING
    assert [Command(), Command()] == protobuf.decode_commands(b"\0\0")


@pytest.mark.parametrize("kind", MESSAGES)
def test_every_message_has_numbers_for_all_its_fields(kind: type[Message]) -> None:
    numbers = schema.NUMBERS[kind]

    assert set(kind.__struct_fields__) == set(numbers)
    assert len(numbers) == len(set(numbers.values()))


@given(messages(Command, binary))
def test_command_round_trip(command: Command) -> None:
    assert [command] == protobuf.decode_commands(protobuf.encode_command(command))


@given(st.lists(messages(Reply, binary), min_size=1, max_size=3))
def test_replies_round_trip(replies: list[Reply]) -> None:
    assert replies == protobuf.decode_replies(protobuf.join(map(protobuf.encode_reply, replies)))


@given(messages(Push, binary))
def test_push_is_its_reply(push: Push) -> None:
    assert protobuf.encode_reply(Reply(push=push)) == protobuf.encode_push(push)
    assert protobuf.encode_push(push).endswith(protobuf.encode_bare(push))


@pytest.mark.parametrize("size", [0, 1, 110, 120, 127, 128, 16_370, 16_384, 70_000])
def test_lengths_of_any_size(size: int) -> None:
    command = Command(1, publish=PublishRequest("c", payload(b"x" * size)))
    frame = protobuf.encode_command(command)

    assert [command, command] == protobuf.decode_commands(frame * 2)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x01",
        b"\x80",
        b"\x80" * 9,
        b"\x80" * 11,
        b"\xff\xff\xff\xff\x0f",
        b"\xff" * 9 + b"\x01",
        b"\x02\x08\x01\x05",
        b"\x02\x08",
        b"\x02\x0a\xff",  # a field that ends beyond the message
        b"\x05\x2a\x03\x0a\x01\xff",  # a channel that is not UTF-8
        b"\x01\x0f",  # a wire type that does not exist
    ],
)
def test_what_is_no_command_is_refused(frame: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        protobuf.decode_commands(frame)


def test_length_over_max_size_is_refused_before_the_rest_is_there() -> None:
    with pytest.raises(ProtocolViolation, match="message of 65537 bytes, over max_size=65536"):
        protobuf.decode_commands(b"\x81\x80\x04", max_size=65536)
    with pytest.raises(ProtocolViolation, match="frame of 3 bytes, over max_size=2"):
        protobuf.decode_commands(b"\0\0\0", max_size=2)


def test_lengths_with_superfluous_bytes_are_understood() -> None:
    assert [Command(1)] == protobuf.decode_commands(b"\x82\x80\x00\x08\x01")


def test_unknown_fields_are_ignored() -> None:
    assert [Command(1)] == protobuf.decode_commands(b"\x05\x08\x01\xf2\x07\x00")


def test_filters_nested_too_deeply_are_refused() -> None:
    node = b""
    for _ in range(150):
        size = len(node)
        head = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
        node = b"\x32" + head + node
    tf = b"\x6a" + bytes([len(node) & 127 | 128, len(node) >> 7]) + node
    body = b"\x2a" + bytes([len(tf) & 127 | 128, len(tf) >> 7]) + tf

    with pytest.raises(ProtocolViolation):
        protobuf.decode_commands(bytes([len(body) & 127 | 128, len(body) >> 7]) + body)


@given(st.binary(max_size=64))
def test_any_bytes_decode_or_are_a_violation(frame: bytes) -> None:
    _decode_or_refuse(frame)


@given(damaged(command_frames))
def test_damaged_frames_decode_or_are_a_violation(frame: bytes) -> None:
    _decode_or_refuse(frame)


def test_reply_whose_fields_contradict_each_other_is_a_violation() -> None:
    expires_without_ttl = bytes.fromhex("04 2a 02 18 01")

    with pytest.raises(ProtocolViolation):
        protobuf.decode_replies(expires_without_ttl)


def test_absent_runtime_names_the_extra() -> None:
    program = (
        "import sys; sys.modules['google.protobuf'] = None\n"
        "try: import hubbub.protocol.protobuf\n"
        "except ImportError as exc: print(exc)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert "pip install 'hubbub[protobuf]'" in done.stdout


def _decode_or_refuse(frame: bytes) -> None:
    try:
        commands = protobuf.decode_commands(frame)
    except ProtocolViolation:
        return
    assert commands
    again = protobuf.join(map(protobuf.encode_command, commands))
    assert commands == protobuf.decode_commands(again)
