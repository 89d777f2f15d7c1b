from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from hubbub.server.frames import BINARY, TEXT, extent, serialize
from tests.server.wire import frame

# Around each length where the header changes its form (RFC 6455 §5.2).
LENGTHS = st.one_of(
    st.integers(0, 130), st.integers(65530, 65540), st.sampled_from([125, 126, 65535, 65536])
)


@given(text=st.booleans(), length=LENGTHS)
def test_serialize_makes_the_bytes_of_the_parent(text: bool, length: int) -> None:
    payload = bytes(length)
    expected = Frame(Opcode.TEXT if text else Opcode.BINARY, payload).serialize(mask=False)

    assert serialize(TEXT if text else BINARY, payload) == expected


@given(opcode=st.sampled_from(Opcode), length=LENGTHS, fin=st.booleans(), before=st.binary())
def test_extent_is_the_length_of_the_frame(
    opcode: Opcode, length: int, fin: bool, before: bytes
) -> None:
    data = frame(opcode, bytes(length), fin=fin)

    assert extent(before + data + b"next", len(before)) == len(data)


@given(length=LENGTHS, data=st.data())
def test_extent_of_the_beginning_of_a_header_is_unknown_or_right(
    length: int, data: st.DataObject
) -> None:
    whole = frame(Opcode.BINARY, bytes(length))
    size = data.draw(st.integers(2, 14))
    known = extent(whole[:size], 0)

    assert known in (0, len(whole))
    assert known or size < 10


@given(first=st.integers(0, 255), second=st.integers(0, 127))
def test_extent_of_an_unmasked_frame_is_the_two_bytes_that_break_the_protocol(
    first: int, second: int
) -> None:
    assert extent(bytes([first, second]), 0) == 2
