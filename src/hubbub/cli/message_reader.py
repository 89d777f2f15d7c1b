"""WebSocket messages out of the bytes that a server sends (RFC 6455 §5), for clients under load."""

from typing import Final

from websockets.frames import Opcode

from hubbub.errors import ProtocolViolation

__all__ = ["MessageReader"]

_CONTROLS: Final = {Opcode.CLOSE, Opcode.PING, Opcode.PONG}
_MAX_SHORT: Final = 125  # bytes that need no extended length; more than control frames may have
_OPCODES: Final = frozenset(Opcode)


class MessageReader:
    """Reassembles messages; no extension is known to it.

    Args:
        max_size: Largest message in bytes.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._rest = b""
        self._fragments: list[bytes] = []
        self._opcode: int = Opcode.CONT  # of the fragments

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take bytes; return what they complete: text and binary messages, control frames.

        Raises:
            ProtocolViolation: These are no frames of a server, or a message is too large.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        messages: list[tuple[int, bytes]] = []
        at, end = 0, len(data)
        while end - at >= 2:
            first, size = data[at], data[at + 1]
            _check_header(first, size)
            start = at + 2
            if size > _MAX_SHORT:
                start += 2 if size == _MAX_SHORT + 1 else 8
                if start > end:
                    break
                size = int.from_bytes(data[at + 2 : start], "big")
                if size > self._max_size:
                    raise ProtocolViolation(f"a message of {size} bytes, over {self._max_size}")
            if start + size > end:
                break
            at = start + size
            self._take(first, data[start:at], messages)
        self._rest = data[at:]
        return messages

    def _take(self, first: int, payload: bytes, messages: list[tuple[int, bytes]]) -> None:
        opcode, final = first & 0x0F, first & 0x80
        if opcode in _CONTROLS:
            messages.append((opcode, payload))
            return
        if bool(opcode) is bool(self._opcode):  # one begins a message, all others continue it
            raise ProtocolViolation("fragments out of order")
        if final and opcode:
            messages.append((opcode, payload))
            return
        self._opcode = self._opcode or opcode
        self._fragments.append(payload)
        if sum(map(len, self._fragments)) > self._max_size:
            raise ProtocolViolation(f"a message of more than {self._max_size} bytes")
        if final:
            messages.append((self._opcode, b"".join(self._fragments)))
            self._opcode = Opcode.CONT
            self._fragments.clear()


def _check_header(first: int, second: int) -> None:
    opcode = first & 0x0F
    if second & 0x80 or first & 0x70 or opcode not in _OPCODES:
        raise ProtocolViolation("a masked frame, or bits of no known extension")
    if opcode in _CONTROLS and (second > _MAX_SHORT or not first & 0x80):
        raise ProtocolViolation("a control frame that is long or fragmented")
