"""The bytes of the load side, checked against the parser of `websockets`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import SERVER, Protocol

from benchmarks.wire import (
    BINARY,
    HANDSHAKE_RESPONSE,
    check_upgrade,
    parse_frame,
    serialize_frame,
    serialize_upgrade,
)

PAYLOADS = st.binary(max_size=2000)
MASKS = st.binary(min_size=4, max_size=4)


@given(PAYLOADS, MASKS)
def test_masked_frame_is_read_by_websockets(payload: bytes, mask: bytes) -> None:
    protocol = Protocol(SERVER)

    protocol.receive_data(serialize_frame(BINARY, payload, mask))

    (frame,) = protocol.events_received()
    assert frame == Frame(Opcode.BINARY, payload)


@given(PAYLOADS, MASKS | st.just(b""), st.binary(max_size=20))
def test_frame_round_trip_leaves_what_follows(payload: bytes, mask: bytes, rest: bytes) -> None:
    raw = serialize_frame(BINARY, payload, mask)

    frame = parse_frame(raw + rest)

    assert frame is not None
    assert (BINARY, payload, len(raw)) == (frame.opcode, frame.payload, frame.size)


@given(PAYLOADS, MASKS | st.just(b""), st.data())
def test_part_of_a_frame_is_no_frame(payload: bytes, mask: bytes, data: st.DataObject) -> None:
    raw = serialize_frame(BINARY, payload, mask)
    end = data.draw(st.integers(0, len(raw) - 1))

    assert parse_frame(raw[:end]) is None


@pytest.mark.parametrize("head", [b"\x01\x01a", b"\xc1\x01a", b"\x81\x7f\x00"])
def test_fragment_compressed_or_huge_frame_is_refused(head: bytes) -> None:
    with pytest.raises(ValueError, match="unexpected frame"):
        parse_frame(head)


def test_upgrade_offers_no_extension() -> None:
    assert b"extensions" not in serialize_upgrade(80, "/").lower()


def test_upgrade_answered_by_101_is_accepted() -> None:
    check_upgrade(HANDSHAKE_RESPONSE)


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
        HANDSHAKE_RESPONSE.replace(b"s3pP", b"S3pP"),
        HANDSHAKE_RESPONSE.replace(b"Upg", b"Sec-WebSocket-Extensions: x\r\nUpg", 1),
    ],
)
def test_upgrade_answered_otherwise_is_refused(response: bytes) -> None:
    with pytest.raises(ValueError, match=r"upgrade refused|extension"):
        check_upgrade(response)
