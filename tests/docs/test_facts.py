"""Names, defaults and numbers in the documentation are those of the code."""

import inspect
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
import websockets.exceptions
from websockets.asyncio import server as parent
from websockets.asyncio.messages import MAX_FRAGMENTS
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS, Request

import hubbub
import hubbub.errors
from hubbub import Server, ServerConnection, basic_auth, serve
from hubbub.server.front import MAX_HEAD
from hubbub.server.http import HTTPService
from hubbub.server.routing import Router
from tests.docs.markdown import PAGES, name, rows, text_of
from tests.programs import ROOT

DOCS = ROOT / "docs"

OPTIONS = inspect.signature(serve).parameters
UNITS = {"s": 1, "bytes": 1, "messages": 1, "KiB": 1024, "MiB": 1 << 20}


def code(cell: str) -> list[str]:
    """Return what a cell has between backticks."""
    return re.findall(r"`([^`]+)`", cell)


# Limits


def test_table_of_limits_has_the_defaults_of_serve() -> None:
    table = {code(row[0])[0]: int(code(row[1])[0]) for row in rows(LIMITS, "option")}

    assert table == {option: OPTIONS[option].default for option in table}
    numbers = {
        option for option, parameter in OPTIONS.items() if isinstance(parameter.default, int)
    }
    assert set(table) == numbers


LIMITS = DOCS / "howto" / "limits.md"


def test_readable_limits_equal_the_bytes() -> None:
    for row in rows(LIMITS, "option"):
        for amount, unit in re.findall(r"\((\d+) ([KM]iB)\)", row[1]):
            assert int(amount) * UNITS[unit] == int(code(row[1])[0])


def test_table_of_fixed_limits_has_those_of_the_code() -> None:
    table = {row[0]: int(row[1].split()[0].replace(",", "")) for row in rows(LIMITS, "limit")}

    assert table == {
        "head of a request": MAX_HEAD,
        "line of an upgrade's head": MAX_LINE_LENGTH,
        "headers of an upgrade": MAX_NUM_HEADERS,
        "fragments of a message": MAX_FRAGMENTS,
        "idle HTTP connection between two requests": (
            inspect.signature(HTTPService).parameters["keep_alive"].default
        ),
    }


DEFAULT = re.compile(r"`(?P<option>\w+)` \((?P<amount>\d+) (?P<unit>\w+) by default\)")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_defaults_in_prose_are_those_of_serve(page: Path) -> None:
    for found in DEFAULT.finditer(text_of(page)):
        assert int(found["amount"]) * UNITS[found["unit"]] == OPTIONS[found["option"]].default


def test_prose_states_defaults() -> None:
    assert sum(len(DEFAULT.findall(text_of(page))) for page in PAGES) >= 15


# Reference


def test_inherited_members_of_connections_are_documented() -> None:
    page = DOCS / "reference" / "connection.md"
    methods = {code(row[0])[0]: row for row in rows(page, "method")}
    for signature in methods:
        member, parameters = signature.rstrip(")").split("(", 1)
        actual = inspect.signature(getattr(ServerConnection, member))
        shown = [str(p.replace(annotation=p.empty)) for p in actual.parameters.values()]
        assert parameters.replace('"', "'") == ", ".join(shown[1:]).replace('"', "'")
    attributes = {item for row in rows(page, "attribute") for item in code(row[0])}
    source = inspect.getsource(parent.ServerConnection.__mro__[1]) + inspect.getsource(
        parent.ServerConnection
    )
    for attribute in attributes - {"transport"}:
        assert hasattr(ServerConnection, attribute) or f"self.{attribute}" in source, attribute

    # What is public in the parent, and neither here nor machinery, would be missing.
    documented = {name.split("(")[0] for name in methods} | attributes
    own = {"recv", "send", "close"}
    assert set(dir(parent.ServerConnection)) - documented - own - MACHINERY == {
        member for member in dir(parent.ServerConnection) if member.startswith("_")
    }


# Called by asyncio or by the parent itself.
MACHINERY = {
    "acknowledge_pings",
    "close_exc",
    "connection_lost",
    "connection_made",
    "data_received",
    "drain",
    "eof_received",
    "handshake",
    "keepalive",
    "pause_writing",
    "process_event",
    "resume_writing",
    "send_context",
    "send_data",
    "set_connection_exc",
    "start_keepalive",
    "terminate_pending_pings",
}


def test_inherited_members_of_servers_are_documented() -> None:
    members = {
        code(row[0])[0].split("(")[0] for row in rows(DOCS / "reference" / "server.md", "member")
    }
    public = {member for member in dir(parent.Server) if not member.startswith("_")}

    assert members == public - {"serve_forever", "wait_closed"}
    assert public <= set(dir(Server))


def test_tree_of_errors_is_that_of_the_code() -> None:
    text = text_of(DOCS / "reference" / "errors.md")
    tree = re.findall(r"^([│ ]*)[├└]── ([\w.]+)", text, re.MULTILINE)
    modules = (hubbub, hubbub.errors, websockets.exceptions)
    parents: list[type[BaseException]] = [Exception]
    for indent, dotted in tree:
        name = dotted.rpartition(".")[2]
        error = next(vars(module)[name] for module in modules if name in vars(module))
        del parents[len(indent) // 4 + 1 :]
        assert error.__bases__[0] is parents[-1], name
        parents.append(error)

    public = {
        error
        for error in (getattr(hubbub, public) for public in hubbub.__all__)
        if isinstance(error, type) and issubclass(error, BaseException)
    }
    assert {error.__name__ for error in public} <= {name for _, name in tree}


def test_every_public_name_is_in_the_reference() -> None:
    text = "\n".join(text_of(page) for page in (DOCS / "reference").glob("*.md"))
    for public in set(hubbub.__all__) - {"__version__"}:
        assert public in text, public


def test_basic_auth_has_the_signature_of_the_reference() -> None:
    shown = ", ".join(
        str(parameter.replace(annotation=parameter.empty)).replace("'", '"')
        for parameter in inspect.signature(basic_auth).parameters.values()
    )

    assert f"`basic_auth({shown})`" in text_of(DOCS / "reference" / "authentication.md")


EXAMPLES_OF_PATHS: dict[str, tuple[str, dict[str, Any]]] = {
    "/rooms": ("/rooms", {}),
    "/rooms/{room}": ("/rooms/a%20b", {"room": "a b"}),
    "/items/{id:int}": ("/items/7", {"id": 7}),
    "/prices/{price:float}": ("/prices/7.5", {"price": 7.5}),
    "/jobs/{job:uuid}": (f"/jobs/{uuid.UUID(int=7)}", {"job": uuid.UUID(int=7)}),
    "/files/{rest:path}": ("/files/a/b?c", {"rest": "a/b"}),
}


async def test_table_of_paths_is_what_the_router_does() -> None:
    table = {
        code(row[0])[0]: code(row[2]) for row in rows(DOCS / "reference" / "server.md", "path")
    }
    assert set(table) == set(EXAMPLES_OF_PATHS)

    class Connection:
        handler_kwargs: dict[str, Any]

    async def handler(connection: ServerConnection, **parameters: Any) -> None: ...

    for path, (request, parameters) in EXAMPLES_OF_PATHS.items():
        connection: Any = Connection()
        process = Router({path: handler}).process_request(None)
        response: Any = process(connection, Request(request, {}))  # type: ignore[arg-type]
        assert await response is None
        assert connection.handler_kwargs == parameters
        for parameter, value in parameters.items():
            kind = "uuid.UUID" if isinstance(value, uuid.UUID) else type(value).__name__
            assert table[path] == [f"{parameter}: {kind}"]
