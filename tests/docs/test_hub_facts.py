"""What the documentation says about hubs in tables is what the code does."""

import inspect
import json
import re
from collections.abc import Callable
from dataclasses import fields

import pytest

from hubbub import DisconnectCode, ErrorCode, Hub, Limits, UnsubscribeCode
from hubbub.auth.claims import Expected, read_connection, read_subscription
from hubbub.errors import InvalidToken
from hubbub.hub.fanout import FLUSH_INTERVAL
from hubbub.hub.patterns import RESERVED, Pattern
from hubbub.hub.wires import MAX_FRAME, MIN_COMPRESSED
from hubbub.protocol.tags import MAX_DEPTH, MAX_NODES, MAX_VALUES
from tests.docs.markdown import rows, text_of
from tests.docs.test_facts import DOCS, code

ERRORS = DOCS / "reference" / "errors.md"
YES_NO = {True: "yes", False: "no"}


def default_of(cell: str) -> str:
    """Return the default in a cell: what is between backticks, whatever its unit."""
    return code(cell)[0]


def test_table_of_limits_has_the_defaults_of_limits() -> None:
    table = {
        code(row[0])[0]: default_of(row[1]) for row in rows(DOCS / "howto/hub-limits.md", "option")
    }

    assert table == {field.name: str(field.default) for field in fields(Limits)}


def test_table_of_arguments_has_the_defaults_of_hub() -> None:
    parameters = inspect.signature(Hub).parameters
    table = {
        code(row[0])[0]: default_of(row[1])
        for row in rows(DOCS / "howto/hub-limits.md", "argument")
    }

    assert table == {name: str(parameters[name].default) for name in table}
    assert set(table) == {
        name for name, parameter in parameters.items() if isinstance(parameter.default, float)
    }


def test_table_of_error_codes_is_that_of_the_code() -> None:
    table = [row[:4] for row in rows(ERRORS, "error")]

    assert table == [
        [str(int(each)), f"`{each.name}`", each.message, YES_NO[each.temporary]]
        for each in ErrorCode
    ]


def test_table_of_disconnect_codes_is_that_of_the_code() -> None:
    table = [row[:4] for row in rows(ERRORS, "disconnect")]

    assert table == [
        [str(int(each)), f"`{each.name}`", each.reason, YES_NO[each.reconnects]]
        for each in DisconnectCode
    ]


def test_table_of_unsubscribe_codes_is_that_of_the_code() -> None:
    table = [row[:4] for row in rows(ERRORS, "unsubscribe")]

    assert table == [
        [str(int(each)), f"`{each.name}`", each.reason, YES_NO[each.resubscribes]]
        for each in UnsubscribeCode
    ]


# Any JSON will do for these.
ANYTHING = {"info", "data", "meta"}


@pytest.mark.parametrize(
    ("heading", "read", "others"),
    [
        ("connection", read_connection, {}),
        ("subscription", read_subscription, {"channel": "news"}),
    ],
)
def test_tables_of_claims_have_those_that_are_read(
    heading: str,
    read: Callable[[bytes, Expected, float], object],
    others: dict[str, str],
) -> None:
    text = text_of(DOCS / "reference" / "tokens.md")
    section = text.partition(f"## Claims of a {heading} token")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    claims = {claim for cell in cells for claim in code(cell)}

    assert claims > ANYTHING - ({"data"} if heading == "connection" else {"meta"})
    for claim in claims - ANYTHING:
        token = json.dumps({**others, claim: [{}]}).encode()
        with pytest.raises(InvalidToken):
            read(token, Expected(), 0)


MATCHES: dict[str, tuple[str, dict[str, str | int]]] = {
    "news": ("news", {}),
    "chat:{room}": ("chat:lobby", {"room": "lobby"}),
    "orders:{number:int}": ("orders:7", {"number": 7}),
    "files:{rest:path}": ("files:a:b", {"rest": "a:b"}),
}


def test_table_of_patterns_is_what_patterns_do() -> None:
    page = DOCS / "reference" / "channels.md"
    table = {code(row[0])[0]: code(row[2]) for row in rows(page, "pattern")}
    assert set(table) == set(MATCHES)
    for pattern, (channel, parameters) in MATCHES.items():
        assert Pattern(pattern).match(channel) == parameters
        assert table[pattern] == [f"{n}: {type(value).__name__}" for n, value in parameters.items()]
    assert all(f"`{name}`" in text_of(page) for name in RESERVED)


def test_numbers_of_fan_out_are_those_of_the_code() -> None:
    text = text_of(DOCS / "topics" / "fan-out.md")

    assert f"every {FLUSH_INTERVAL * 1000:.0f} milliseconds" in text
    assert f"bounded at {MAX_FRAME // 1024} KiB" in text
    assert f"a batch of {MIN_COMPRESSED} bytes or more" in text


def test_bounds_of_filters_are_those_of_the_code() -> None:
    text = text_of(DOCS / "howto" / "deltas-and-filters.md")

    assert f"{MAX_DEPTH} levels, {MAX_NODES} nodes and {MAX_VALUES} values" in text
