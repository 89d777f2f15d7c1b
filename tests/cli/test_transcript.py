import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.cli.escape import is_safe
from hubbub.cli.transcript import describe_bytes, describe_message


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"", "0 bytes"),
        (b"A", "1 byte: 41 |A|"),
        (b"hi\x00\x7f\xff", "5 bytes: 68 69 00 7f ff |hi...|"),
        (
            b"0123456789" * 3,
            "30 bytes: 30 31 32 33 34 35 36 37 38 39 30 31 32 33 34 35 36 37 38 39 30 31 32 33 …"
            " |012345678901234567890123| …",
        ),
    ],
)
def test_bytes_are_summed_up(data: bytes, shown: str) -> None:
    assert describe_bytes(data) == shown


@given(st.one_of(st.text(), st.binary()))
def test_every_message_is_safe_on_one_line(message: str | bytes) -> None:
    assert all(map(is_safe, describe_message(message)))
