"""What a wire format of the client protocol is: an interface that its module fulfils as it stands.

`hubbub.protocol.json` and `hubbub.protocol.protobuf` are the two; a session holds one of them.
"""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from hubbub.protocol.commands import Command
from hubbub.protocol.replies import Push, Reply

__all__ = ["Codec"]


class Codec(Protocol):
    """A wire format. All of it is synchronous and without state.

    Attributes:
        BINARY: Whether its frames are binary.
        PING: A reply without anything in it, encoded.
    """

    BINARY: bool
    PING: bytes

    def decode_commands(self, frame: bytes | str, *, max_size: int | None = None) -> list[Command]:
        """Decode what a client sent at once.

        Args:
            frame: One or more commands.
            max_size: Largest frame in bytes. `None`: the transport has seen to it.

        Raises:
            ProtocolViolation: The frame is empty, too large or malformed.
        """

    def encode_reply(self, reply: Reply) -> bytes:
        """Encode a reply; its payloads are of this format already."""

    def encode_push(self, push: Push) -> bytes:
        """Encode a push in its reply; its payloads are of this format already."""

    def encode_bare(self, push: Push) -> bytes:
        """Encode a push for a unidirectional transport."""

    def join(self, encoded: Iterable[bytes]) -> bytes:
        """Join encoded messages, at least one, into a frame."""

    def embed(self, data: bytes, /) -> msgspec.Raw:
        """Prepare a payload of unknown origin for messages in this format.

        Raises:
            PayloadError: The format cannot carry it.
        """

    def quote(self, text: bytes, /) -> msgspec.Raw:
        """Prepare a payload or a patch for clients with delta on.

        Raises:
            PayloadError: The format cannot carry it.
        """
