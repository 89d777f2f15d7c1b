from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from hubbub.errors import InvalidMessage, PayloadError
from hubbub.hub.payloads import Payloads


class Point(msgspec.Struct):
    x: int
    y: int = 0


@dataclass
class Place:
    x: int
    y: int = 0


class Entry(TypedDict):
    x: int
    y: int


class Model(pydantic.BaseModel):
    x: int
    y: int = pydantic.Field(default=0, ge=0)


TYPES: dict[Any, Any] = {
    Point: Point(1, 2),
    Place: Place(1, 2),
    Entry: {"x": 1, "y": 2},
    Model: Model(x=1, y=2),
    Any: {"x": 1, "y": 2},
}


@pytest.mark.parametrize("type_", TYPES)
def test_value_of_a_type_goes_both_ways(type_: Any) -> None:
    payloads: Payloads[Any] = Payloads(type_)

    assert payloads.encode(TYPES[type_]) == b'{"x":1,"y":2}'
    assert payloads.decode(b'{"x":1,"y":2}') == TYPES[type_]


@pytest.mark.parametrize("type_", [Point, Place, Entry, Model])
@pytest.mark.parametrize("data", [b'{"x":1,"y":"two"}', b'{"x":1,"y":null}'])
def test_field_that_does_not_fit_is_named_and_not_quoted(type_: Any, data: bytes) -> None:
    payloads: Payloads[Any] = Payloads(type_)
    with pytest.raises(InvalidMessage) as caught:
        payloads.check(data)

    assert caught.value.code == 107
    assert caught.value.message.startswith("bad request: ")
    assert "$.y" in caught.value.problem
    assert "two" not in caught.value.problem


@pytest.mark.parametrize("type_", [Point, Place, Model])
@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"1", b'"\xff"', b'{"x":1,"more":"\xff"}{', b"[" * 100_000]
)
def test_no_bytes_are_more_than_invalid(type_: Any, data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        Payloads(type_).decode(data)


def test_nested_field_is_named_by_its_path() -> None:
    class Line(pydantic.BaseModel):
        points: list[Model]

    with pytest.raises(InvalidMessage, match=r"\$\.points\.1\.y"):
        Payloads(Line).decode(b'{"points":[{"x":1},{"x":1,"y":-1}]}')
    with pytest.raises(InvalidMessage, match=r"\$\[1\]\.y"):
        Payloads(list[Point]).decode(b'[{"x":1},{"x":1,"y":"z"}]')


def test_whole_model_that_does_not_fit_names_no_field() -> None:
    with pytest.raises(InvalidMessage) as caught:
        Payloads(Model).decode(b"7")

    assert "$" not in caught.value.problem


def test_pydantic_model_is_made_of_what_fits_it() -> None:
    payloads: Payloads[Any] = Payloads(Model)

    assert payloads.encode({"x": "1"}) == b'{"x":1,"y":0}'
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        payloads.encode({"x": 1, "y": -1})


def test_any_json_is_taken_unparsed() -> None:
    payloads: Payloads[Any] = Payloads()
    payloads.check(b"not looked at")

    assert not payloads.typed


@pytest.mark.parametrize("type_", [Any, Point, Model])
def test_what_clients_publish_is_json_on_one_line(type_: Any) -> None:
    payloads: Payloads[Any] = Payloads(type_)
    for text in (b"1", b'"x"', b"null", b"[1,2]", b'{"a":1e400}', b'{"x": 1.0}'):
        assert payloads.accept(text, json_checked=False) == text
    assert payloads.accept(b'\n{"x":\r\n1}\n', json_checked=False) == b'{"x":1}'
    for text in (b"{", b"\xff", b"nan", b'{"x":1,"more":"\xff"}'):
        with pytest.raises(InvalidMessage):
            payloads.accept(text, json_checked=False)
        assert payloads.accept(text, json_checked=True) is text


def test_bytes_are_opaque() -> None:
    payloads: Payloads[bytes] = Payloads(bytes)
    payloads.check(b"\xff")

    assert payloads.accept(b"\xff", json_checked=False) == b"\xff"

    assert payloads.binary
    assert payloads.encode(b"\xff") == b"\xff"
    assert payloads.encode(memoryview(b"\xff")) == b"\xff"  # type: ignore[arg-type]  # it will do
    assert payloads.encode(msgspec.Raw(b"\xff")) == b"\xff"
    assert payloads.decode(b"\xff") == b"\xff"
    with pytest.raises(TypeError, match="carries bytes, not str"):
        payloads.encode("text")  # type: ignore[arg-type]


def test_raw_json_is_checked_and_kept_on_one_line() -> None:
    payloads: Payloads[Any] = Payloads(Point)

    assert payloads.encode(msgspec.Raw(b'{"x":\n 1.0}')) == b'{"x": 1.0}'
    with pytest.raises(PayloadError):
        payloads.encode(msgspec.Raw(b"{"))


def test_value_that_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError):
        Payloads[Any]().encode(object())


def test_type_that_cannot_be_decoded_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="cannot be the type of a message"):
        Payloads(Point | Place)
