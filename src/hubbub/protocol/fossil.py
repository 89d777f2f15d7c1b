"""Patches in the Fossil delta format (client protocol, `delta: "fossil"`).

    patch   = int(len(target)) LF *segment int(checksum(target)) ";"
    segment = int(n) "@" int(pos) ","      copy n bytes of the base from pos
            | int(n) ":" n bytes           insert them

Integers are big-endian in base 64 with the digits below, without leading zeros.

How a patch is found: what base and target have in common at both ends is cut off first, with
comparisons that run in C, since the usual publication is the one before with a few values changed.
The rest of the target is searched for 16-byte blocks of the base, which are indexed by their own
bytes in a dict: no hash of ours that could be made to collide. A hit is extended both ways and the
search goes on behind it. Of a block that occurs often only the few places nearest to the last copy
are tried, so that the work stays linear in base and target, whatever they are (ADR 0009).

A patch for a JSON client travels in a string, so it must be UTF-8: copies of text begin and end
between characters, never within one, and the literals between them do therefore, too.
"""

import struct
from bisect import bisect_left

from hubbub.errors import ProtocolViolation

__all__ = ["apply", "checksum", "diff"]

_DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}
_BLOCK = 16
_MAX_CANDIDATES = 4
_MAX_DIGITS = 6  # of 32 bits


def diff(base: bytes, target: bytes) -> bytes | None:
    """Return the patch that makes the target of the base.

    Of text in UTF-8 the patch is UTF-8 as well. Linear in time and memory.

    Returns:
        The patch, or `None` where it is not shorter than the target: send that instead.
    """
    patch = _Writer(base, target)
    prefix = patch.end_in_target(_common_prefix(base, target))
    limit = min(len(base), len(target)) - prefix
    end = patch.start_in_target(len(target) - _common_suffix(base, target, limit))
    patch.copy(0, 0, prefix)
    if end - patch.done >= _BLOCK:
        _search(patch, end)
    patch.copy(len(base) - len(target) + end, end, len(target) - end)
    return patch.finish()


def apply(base: bytes, patch: bytes) -> bytes:
    """Return the target that a patch makes of the base.

    Raises:
        ProtocolViolation: The patch is malformed or belongs to another base.
    """
    size, at = _read_int(patch, 0)
    if patch[at : at + 1] != b"\n":
        raise ProtocolViolation("patch without a size")
    at += 1
    pieces: list[bytes] = []
    total = 0
    while True:
        count, at = _read_int(patch, at)
        match patch[at : at + 1]:
            case b"@":
                start, at = _read_int(patch, at + 1)
                if patch[at : at + 1] != b"," or start + count > len(base):
                    raise ProtocolViolation("patch copies what the base does not have")
                pieces.append(base[start : start + count])
            case b":":
                pieces.append(patch[at + 1 : at + 1 + count])
                at += count
                if at >= len(patch):
                    raise ProtocolViolation("patch is truncated")
            case b";":
                break
            case _:
                raise ProtocolViolation("patch with an unknown segment")
        at += 1
        total += count
        if total > size:
            raise ProtocolViolation(f"patch makes more than the {size} bytes it announced")
    target = b"".join(pieces)
    if len(target) != size or checksum(target) != count or at + 1 != len(patch):
        raise ProtocolViolation("patch of another base")
    return target


def checksum(data: bytes) -> int:
    """Return the sum of the 32-bit big-endian words, the last padded with zeros, modulo 2**32."""
    words = (len(data) + 3) // 4
    total: int = sum(struct.unpack(f">{words}I", data.ljust(words * 4, b"\0")))
    return total & 0xFFFFFFFF


class _Writer:
    """A patch as it grows, and how much of the target it makes already (`done`)."""

    def __init__(self, base: bytes, target: bytes) -> None:
        self.base = base
        self.target = target
        self.done = 0
        self.next_in_base = 0  # behind the last copy
        self._pieces = [_int(len(target)), b"\n"]
        self._is_text = not target.isascii() and _is_utf8(target)

    def copy(self, start: int, at: int, count: int) -> bool:
        """Copy `base[start:start + count]` to `target[at:]`, where that is worth its digits.

        What of the target lies between `done` and `at` goes before it, as a literal.
        """
        head = b"%b@%b," % (_int(count), _int(start))
        if count <= len(head):
            return False
        self._insert(at)
        self._pieces.append(head)
        self.done = at + count
        self.next_in_base = start + count
        return True

    def finish(self) -> bytes | None:
        """Return the patch with all that is left as a literal; `None` if it is not shorter."""
        self._insert(len(self.target))
        self._pieces.append(b"%b;" % _int(checksum(self.target)))
        patch = b"".join(self._pieces)
        return patch if len(patch) < len(self.target) else None

    def start_in_target(self, at: int) -> int:
        """Return the first place from here on at which a character begins."""
        if self._is_text:
            while at < len(self.target) and self.target[at] & 0xC0 == 0x80:
                at += 1
        return at

    def end_in_target(self, at: int) -> int:
        """Return the last place up to here at which a character begins."""
        if self._is_text and at < len(self.target):
            while self.target[at] & 0xC0 == 0x80:
                at -= 1
        return at

    def _insert(self, end: int) -> None:
        if end > self.done:
            self._pieces += (_int(end - self.done), b":", self.target[self.done : end])


def _search(patch: _Writer, end: int) -> None:
    """Write copies for what the base has of the target between `patch.done` and `end`."""
    base, target = patch.base, patch.target
    index = _index(base)
    at = patch.done
    while at <= end - _BLOCK:
        starts = index.get(target[at : at + _BLOCK])
        if starts is None:
            at += 1
            continue
        # Where the base goes on after the last copy is where an edited document does, too.
        place = bisect_left(starts, patch.next_in_base + at - patch.done)
        starts = starts[max(0, place - _MAX_CANDIDATES // 2) : place + _MAX_CANDIDATES // 2]
        lengths = [_common_run(base, start, target, at, end) for start in starts]
        length = max(lengths)
        start = starts[lengths.index(length)]
        back = _common_run_back(base, start, target, at, patch.done)
        first = patch.start_in_target(at - back)
        last = patch.end_in_target(at + length)
        if patch.copy(start + first - at, first, last - first):
            at = last
        else:
            at += 1


def _index(base: bytes) -> dict[bytes, list[int]]:
    """Return where the blocks of the base begin, ascending, by their bytes."""
    index: dict[bytes, list[int]] = {}
    for start in range(0, len(base) - _BLOCK + 1, _BLOCK):
        index.setdefault(base[start : start + _BLOCK], []).append(start)
    return index


def _common_run(base: bytes, start: int, target: bytes, at: int, end: int) -> int:
    """Return how far the base from `start` and the target from `at` to `end` agree.

    Steps double, so that the work is linear in the answer and not in what is left.
    """
    length, step = 0, 4 * _BLOCK
    most = min(len(base) - start, end - at)
    while length < most:
        step = min(step, most - length)
        left = base[start + length : start + length + step]
        right = target[at + length : at + length + step]
        if left != right:
            return length + _common_prefix(left, right)
        length += step
        step *= 2
    return most


def _common_run_back(base: bytes, start: int, target: bytes, at: int, begin: int) -> int:
    """Return how far back from `start` and from `at` base and target agree, not beyond `begin`."""
    length, step = 0, _BLOCK
    most = min(start, at - begin)
    while length < most:
        step = min(step, most - length)
        left = base[start - length - step : start - length]
        right = target[at - length - step : at - length]
        if left != right:
            return length + _common_suffix(left, right, step)
        length += step
        step *= 2
    return most


def _common_prefix(left: bytes, right: bytes) -> int:
    """Return how many bytes two byte strings begin with in common, by bisection."""
    most = min(len(left), len(right))
    if left[:most] == right[:most]:
        return most
    low, high = 0, most  # equal before low, different before high
    while high - low > 1:
        middle = (low + high) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _common_suffix(left: bytes, right: bytes, most: int) -> int:
    """Return how many bytes two byte strings end with in common, at most so many."""
    return _common_prefix(left[len(left) - most :][::-1], right[len(right) - most :][::-1])


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _int(value: int) -> bytes:
    digits = bytearray()
    while True:
        value, digit = divmod(value, 64)
        digits.append(_DIGITS[digit])
        if not value:
            digits.reverse()
            return bytes(digits)


def _read_int(patch: bytes, at: int) -> tuple[int, int]:
    """Read an integer; return it and where it ends."""
    value = 0
    start = at
    while at < len(patch) and (digit := _VALUES.get(patch[at])) is not None:
        value = value * 64 + digit
        at += 1
    if not 0 < at - start <= _MAX_DIGITS or value >> 32:
        raise ProtocolViolation("patch without an integer where one belongs")
    return value, at
