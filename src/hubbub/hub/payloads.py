"""Payloads of a type: what a channel or a method was declared to carry (ADR 0011).

msgspec knows its Structs, dataclasses, TypedDicts and everything else that type hints can say;
pydantic's models know themselves. Without a type nothing is parsed: any JSON will do.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import msgspec

from hubbub.errors import InvalidMessage, PayloadError
from hubbub.protocol import json

__all__ = ["Payloads"]

T = TypeVar("T")

_encoder = msgspec.json.Encoder()


class Payloads(Generic[T]):
    """Decodes and encodes payloads of one type.

    Attributes:
        type: `Any` takes every JSON value, unparsed unless somebody asks; `bytes` is no JSON but
            whatever the application likes.
        binary: Whether it is `bytes`: clients that speak JSON cannot read them.
        typed: Whether what clients publish has to be parsed to know that it fits.

    Raises:
        TypeError: Neither msgspec nor pydantic can make values of this type.
    """

    __slots__ = ("_decode", "_encode", "binary", "type", "typed")

    def __init__(self, type_: Any = Any) -> None:
        self.type = type_
        self.binary = type_ is bytes
        self.typed = type_ is not Any and not self.binary
        self._encode: Callable[[Any], bytes] = _encode_json
        if self.binary:
            self._decode: Callable[[bytes], Any] = bytes
            self._encode = _encode_bytes
        elif _is_pydantic(type_):
            self._decode, self._encode = _pydantic(type_)
        else:
            try:
                self._decode = msgspec.json.Decoder(type_).decode
            except TypeError as exc:
                raise TypeError(f"{type_!r} cannot be the type of a message: {exc}") from exc

    def decode(self, data: bytes) -> T:
        """Make a value of a payload.

        Raises:
            InvalidMessage: It does not fit the type; the problem names the field.
        """
        try:
            return cast("T", self._decode(data))
        except (msgspec.MsgspecError, RecursionError, ValueError) as exc:
            raise InvalidMessage(_problem(exc)) from exc

    def accept(self, data: bytes, *, json_checked: bool) -> bytes:
        """Return what a client publishes as all others can read it: JSON in UTF-8, on one line.

        Args:
            json_checked: It came from a client that speaks JSON, and is all that already.

        Raises:
            InvalidMessage: It is no JSON.
        """
        if json_checked or self.binary:
            return data
        try:
            return bytes(json.embed(data))
        except PayloadError as exc:
            raise InvalidMessage(str(exc)) from exc

    def check(self, data: bytes) -> None:
        """Refuse a payload that does not fit.

        Raises:
            InvalidMessage: It does not fit the type.
        """
        if self.typed:
            self.decode(data)

    def encode(self, value: T | msgspec.Raw) -> bytes:
        """Make a payload of a value.

        Args:
            value: Of the type, or `msgspec.Raw`: JSON as it is, checked to be JSON.

        Raises:
            TypeError: The value cannot be written as JSON.
            PayloadError: The value is `msgspec.Raw`, and no JSON.
        """
        if isinstance(value, msgspec.Raw):
            return bytes(value) if self.binary else bytes(json.embed(bytes(value)))
        return self._encode(value)


def _encode_json(value: object) -> bytes:
    return _encoder.encode(value)


def _encode_bytes(value: object) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"the channel carries bytes, not {type(value).__name__}")
    return bytes(value)


def _is_pydantic(type_: object) -> bool:
    return isinstance(type_, type) and hasattr(type_, "model_validate_json")


def _pydantic(model: Any) -> tuple[Callable[[bytes], Any], Callable[[Any], bytes]]:
    """Return what decodes and encodes a pydantic model; pydantic itself is never imported."""

    def encode(value: Any) -> bytes:
        if not isinstance(value, model):
            value = model.model_validate(value)
        return cast("str", value.model_dump_json()).encode()

    return model.model_validate_json, encode


def _problem(exc: Exception) -> str:
    """Say what is wrong and where, without the value."""
    errors = getattr(exc, "errors", None)
    if callable(errors):  # pydantic.ValidationError
        first = errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{first['msg']} - at `$.{where}`" if where else str(first["msg"])
    if isinstance(exc, UnicodeError):
        return "not UTF-8"
    if isinstance(exc, RecursionError):
        return "nested too deeply"
    return str(exc)
