"""Fossil patches: they make the target, they are text where it is, they cost what they may."""

import os
import random
import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hubbub.errors import ProtocolViolation
from hubbub.protocol import fossil

LETTERS = st.sampled_from('abñ日🎉{}:"\\, \u0301')
CHECKED = b'n\nC:{"counter":2b@C,3NANGl;'
BASE = b'{"counter":1,"payload":"aaaaaaaaaaaaaaaaaaaaaaaa"}'


@st.composite
def edited(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A document of repetitive text, and the same with pieces changed, moved and cut."""
    words = draw(st.lists(st.text(LETTERS, min_size=1, max_size=40), min_size=1, max_size=6))
    pick = st.lists(st.sampled_from(words), max_size=30)
    text = "".join(draw(pick))
    other = text
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(other)))
        until = draw(st.integers(at, min(len(other), at + 50)))
        to = draw(st.integers(0, len(other)))
        other = other[:at] + "".join(draw(pick)[:2]) + other[until:] + other[at:until][:to]
    return text.encode(), other.encode()


def check(base: bytes, target: bytes) -> None:
    patch = fossil.diff(base, target)
    if patch is not None:
        assert len(patch) < len(target)
        assert target == fossil.apply(base, patch)


@given(st.binary(), st.binary())
@example(b"", b"")
@example(b"", b"x" * 40)
@example(b"x" * 40, b"")
def test_patch_makes_the_target(base: bytes, target: bytes) -> None:
    check(base, target)


@given(st.binary(max_size=90), st.lists(st.binary(max_size=40), max_size=6), st.randoms())
def test_patch_makes_binary_targets_of_pieces(
    base: bytes, pieces: list[bytes], pick: random.Random
) -> None:
    target = b""
    for piece in pieces:
        at = pick.randint(0, len(base))
        target += piece + base[at : at + pick.randint(0, 60)]

    check(base, target)


@given(edited())
def test_patch_of_text_is_text(pair: tuple[bytes, bytes]) -> None:
    base, target = pair
    check(base, target)
    patch = fossil.diff(base, target)

    if patch is not None:
        patch.decode()


@given(st.text(st.sampled_from("日本語Ω"), max_size=80), st.text(st.sampled_from("日末語ω")))
def test_patch_does_not_cut_characters_that_share_bytes(left: str, right: str) -> None:
    base, target = (left + right).encode(), (right + left[5:] + right).encode()
    check(base, target)
    patch = fossil.diff(base, target)

    if patch is not None:
        patch.decode()


def test_example_of_the_protocol() -> None:
    target = BASE.replace(b"1", b"2")
    patch = fossil.diff(BASE, target)

    assert target == fossil.apply(BASE, CHECKED)
    assert patch is not None
    assert len(patch) <= len(CHECKED)


@pytest.mark.parametrize(
    ("data", "value"),
    [(b"", 0), (b"abc", 1633837824), (b"\xff" * 8, 0xFFFFFFFE), (b"\0\0\0\1" * 5, 5)],
)
def test_checksum(data: bytes, value: int) -> None:
    assert value == fossil.checksum(data)


def test_patch_of_equal_payloads_is_one_copy() -> None:
    patch = fossil.diff(BASE, BASE)

    assert patch is not None
    assert patch.startswith(b"n\nn@0,")


def test_no_patch_where_it_would_not_be_shorter() -> None:
    assert fossil.diff(b"something else", b"x") is None
    assert fossil.diff(b"", b"anything at all, really") is None


def test_edits_of_a_large_document_make_a_small_patch() -> None:
    pick = random.Random(1)
    base = "".join(pick.choice('abcdé日 {}":,') for _ in range(40_000)).encode()
    target = base[:9_000] + b"changed" + base[9_100:20_000] + base[30_000:] + base[5_000:7_000]

    patch = fossil.diff(base, target)

    assert patch is not None
    assert len(patch) < 100
    assert target == fossil.apply(base, patch)


A = b"a" * 32768
ADVERSARIAL = [
    (A, b"a" * 15 + b"b" * 32753),
    (A, (b"a" * 16 + b"b") * 1927),
    (A, (b"a" * 15 + b"b") * 2048),
    (A[:-1] + b"b", (b"a" * 2000 + b"c") * 16),
    ((b"a" * 31 + b"b") * 1024, (b"a" * 47 + b"b") * 682),
    (b"\x80" * 32768, b"\x80" * 15000 + b"\x81" + b"\x80" * 15000),
    (os.urandom(32768), os.urandom(32768)),
    ("é".encode() * 16384, ("é" * 9 + "è").encode() * 1638),
]


class Counted(bytes):
    """Bytes that count how many of them were sliced out."""

    sliced = 0

    def __getitem__(self, key: Any) -> Any:
        item = super().__getitem__(key)
        if isinstance(item, bytes):
            Counted.sliced += len(item)
        return item


def work(base: bytes, target: bytes) -> int:
    """Count what `diff` does: lines of Python run, and bytes that they slice."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before, Counted.sliced = sys.gettrace(), 0
    sys.settrace(trace)
    try:
        fossil.diff(Counted(base), Counted(target))
    finally:
        sys.settrace(before)
    return lines + Counted.sliced


@pytest.mark.parametrize(("base", "target"), ADVERSARIAL)
def test_adversarial_payloads_take_linear_work(base: bytes, target: bytes) -> None:
    check(base, target)

    # Quadratic would be thousands for each byte.
    assert work(base, target) < 40 * (len(base) + len(target))


@given(st.binary(max_size=64), st.binary(max_size=64))
@example(BASE, b"n\n")
@example(BASE, b"n\nn@0,")
@example(BASE, b"0\n~~~~~~~~~~~~:;")
@example(BASE, b"3~~~~~\nn@0,;")
def test_any_patch_applies_or_is_a_violation(base: bytes, patch: bytes) -> None:
    apply_or_refuse(base, patch)


@given(st.integers(0, len(CHECKED) - 1), st.integers(0, 255))
def test_damaged_patch_applies_or_is_a_violation(at: int, value: int) -> None:
    apply_or_refuse(BASE, CHECKED[:at] + bytes([value]) + CHECKED[at + 1 :])
    apply_or_refuse(BASE, CHECKED[:at])


def test_patch_of_another_base_is_a_violation() -> None:
    with pytest.raises(ProtocolViolation):
        fossil.apply(BASE.replace(b"a", b"b"), CHECKED)


def apply_or_refuse(base: bytes, patch: bytes) -> None:
    try:
        target = fossil.apply(base, patch)
    except ProtocolViolation:
        return
    size = patch.partition(b"\n")[0]
    assert size
    assert len(target) <= max(len(base) * len(patch), len(patch))
