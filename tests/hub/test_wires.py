import itertools
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode

from hubbub.hub.wires import MAX_FRAME, MIN_COMPRESSED, Wire, frames, websocket_wire
from hubbub.protocol import json, protobuf
from hubbub.protocol.replies import MessagePush, Push, Reply
from tests.hub.raw import raw

KINDS = [(binary, deflate) for binary in (False, True) for deflate in (False, True)]


def read(frame: bytes) -> tuple[int, bytes]:
    """Take a server's frame apart: its first byte and its payload, inflated."""
    length, at = frame[1], 2
    if length == 126:
        length, at = int.from_bytes(frame[2:4], "big"), 4
    elif length == 127:
        length, at = int.from_bytes(frame[2:10], "big"), 10
    payload = frame[at:]
    assert len(payload) == length
    if frame[0] & 0x40:
        payload = inflate(payload + b"\0\0\xff\xff")
    return frame[0], payload


def inflate(data: bytes) -> bytes:
    """Inflate a little at a time: at once, zlib looks back further than the window."""
    inflater, parts = zlib.decompressobj(wbits=-12), list[bytes]()
    while data:
        parts.append(inflater.decompress(data, 256))
        data = inflater.unconsumed_tail
    return b"".join(parts)


@pytest.mark.parametrize(("binary", "deflate"), KINDS)
def test_wire_is_one_object_for_all_of_its_kind(binary: bool, deflate: bool) -> None:
    wire = websocket_wire(binary=binary, deflate=deflate)

    assert wire is websocket_wire(binary=binary, deflate=deflate)
    assert wire.codec is (protobuf if binary else json)
    assert read(wire.ping) == ((0x82, b"\0") if binary else (0x81, b"{}"))


@pytest.mark.parametrize(("binary", "deflate"), KINDS)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("size", [0, 125, 126, MIN_COMPRESSED - 1, MIN_COMPRESSED, 65_535, 70_000])
def test_frame_holds_its_payload(binary: bool, deflate: bool, shared: bool, size: int) -> None:
    payload = b"x" * size
    first, found = read(
        websocket_wire(binary=binary, deflate=deflate).frame(payload, shared=shared)
    )

    assert found == payload
    assert first & 0x0F == (Opcode.BINARY if binary else Opcode.TEXT)
    assert bool(first & 0x40) == (deflate and shared and size >= MIN_COMPRESSED)


@pytest.mark.parametrize("binary", [False, True])
def test_compressed_frames_do_not_depend_on_each_other(binary: bool) -> None:
    wire = websocket_wire(binary=binary, deflate=True)

    assert wire.frame(b"ab" * 500, shared=True) == wire.frame(b"ab" * 500, shared=True)


def test_compressed_frame_looks_back_no_further_than_its_window() -> None:
    noise = random.Random(12).randbytes(6000)
    _, found = read(websocket_wire(binary=True, deflate=True).frame(noise + noise, shared=True))

    assert found == noise + noise


def encode(wire: Wire, size: int) -> bytes:
    return wire.codec.encode_push(Push(message=MessagePush(raw("x" * size))))


@pytest.mark.parametrize(("binary", "deflate"), KINDS)
@given(sizes=st.lists(st.sampled_from([0, 1, 30_000, 65_000, 65_534, 66_000]), min_size=1))
def test_frames_keep_messages_whole_in_order_and_few(
    binary: bool, deflate: bool, sizes: list[int]
) -> None:
    wire = websocket_wire(binary=binary, deflate=deflate)
    messages = [encode(wire, size) for size in sizes]
    payloads = [read(frame)[1] for frame in frames(wire, messages, shared=True)]
    codec = protobuf if binary else json
    replies: list[Reply] = [
        reply for payload in payloads for reply in codec.decode_replies(payload)
    ]

    assert [codec.encode_reply(reply) for reply in replies] == messages
    # Too large only where a single message is; and no two neighbours would have fitted into one.
    assert all(len(payload) <= MAX_FRAME or payload in messages for payload in payloads)
    for one, other in itertools.pairwise(payloads):
        following = codec.decode_replies(other)[0]
        assert len(one) + 1 + len(codec.encode_reply(following)) >= MAX_FRAME
