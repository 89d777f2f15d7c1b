"""Messages out of bytes, whatever the pieces they come in; frames are made by `websockets`."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from hubbub.cli.message_reader import MessageReader
from hubbub.errors import ProtocolViolation

PAYLOADS = st.binary(max_size=300) | st.integers(65_530, 65_540).map(bytes)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(PAYLOADS, max_size=5), st.lists(st.integers(0, 400_000), max_size=8))
def test_any_split_of_frames_gives_the_same_messages(
    payloads: list[bytes], places: list[int]
) -> None:
    reader = MessageReader(2**17)
    raw = b"".join(Frame(Opcode.BINARY, payload).serialize(mask=False) for payload in payloads)

    messages = [message for piece in cut(raw, places) for message in reader.feed(piece)]

    assert messages == [(Opcode.BINARY, payload) for payload in payloads]


def test_fragments_make_one_message_with_a_ping_between_them() -> None:
    frames = [
        Frame(Opcode.TEXT, b"a", fin=False),
        Frame(Opcode.PING, b"p"),
        Frame(Opcode.CONT, b"b", fin=False),
        Frame(Opcode.CONT, b"c"),
        Frame(Opcode.TEXT, b"d"),
    ]
    raw = b"".join(frame.serialize(mask=False) for frame in frames)

    messages = MessageReader(10).feed(raw)

    assert messages == [(Opcode.PING, b"p"), (Opcode.TEXT, b"abc"), (Opcode.TEXT, b"d")]


@pytest.mark.parametrize(
    "raw",
    [
        Frame(Opcode.TEXT, b"a").serialize(mask=True),
        b"\xc1\x01a",
        b"\x83\x01a",
        b"\x09\x00",
        b"\x89\x7e\x00\x80",
        b"\x80\x01a",
        b"\x01\x01a\x81\x01b",
        b"\x81\x7e\x01\x00",
        b"\x01\x7d" + bytes(125) + b"\x80\x7d" + bytes(125),
    ],
    ids=[
        "masked",
        "compressed",
        "unknown opcode",
        "fragmented control",
        "long control",
        "continuation of nothing",
        "message within another",
        "too large",
        "too large in fragments",
    ],
)
def test_what_no_server_may_send_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        MessageReader(200).feed(raw)
