"""`module:attribute` found, or refused with a reason."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hubbub.cli.failure import Failure
from hubbub.cli.loader import Target, load, load_http

APP = """
import functools

async def handler(websocket): ...
async def other_handler(websocket): ...
class Hub:
    async def __call__(self, websocket): ...
    async def chat(self, websocket): ...
hub = Hub()
paths = {"/": handler, "/hub": hub}
partial = functools.partial(handler)

answer = 42
async def create_app(): ...
async def asgi(scope, receive, send): ...
async def generator(websocket): yield
empty = {}
relative = {"chat": handler}
wrong = {"/": 42}
"""

WriteModule = Callable[[str, str], None]


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteModule]:
    """Write a module into the working directory; the process forgets it afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def write(name: str, source: str) -> None:
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)

    yield write
    for name in set(sys.modules) - before:
        if not name.startswith(("hubbub", "websockets")):
            del sys.modules[name]
    sys.path_importer_cache.pop(str(tmp_path), None)


def failure(target: str) -> str:
    with pytest.raises(Failure) as raised:
        load(Target.parse(target))
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("attribute", ["handler", "hub", "hub.chat", "paths", "partial"])
def test_load_finds_what_can_serve(write_module: WriteModule, attribute: str) -> None:
    write_module("shop", APP)

    assert load(Target.parse(f"shop:{attribute}"))


def test_load_puts_the_working_directory_first(write_module: WriteModule, tmp_path: Path) -> None:
    write_module("this", "async def handler(websocket): ...")  # a module of Python too

    assert load(Target.parse("this:handler")).__module__ == "this"
    assert sys.path[0] == str(tmp_path)


def test_load_finds_modules_in_packages(write_module: WriteModule) -> None:
    write_module("market/shop", APP)

    assert load(Target.parse("market.shop:handler"))


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("shop", "'shop' is not of the form module:attribute, for example shop:handler"),
        ("shop.py", "'shop.py' is not of the form module:attribute, for example shop:handler"),
        (":x", "':x' is not of the form module:attribute, for example app:x"),
        ("shop:", "'shop:' is not of the form module:attribute, for example shop:handler"),
        ("shop:a b", "'shop:a b' is not of the form module:attribute, for example app:handler"),
        ("shop.py:hub", "'shop.py' is a path, not a module: write shop:hub"),
        ("./a/shop.py:hub", "'./a/shop.py' is a path, not a module: write a.shop:hub"),
    ],
)
def test_target_of_wrong_form_is_refused(target: str, problem: str) -> None:
    assert failure(target) == problem


def test_missing_module_suggests_a_close_name(write_module: WriteModule, tmp_path: Path) -> None:
    write_module("shop", APP)

    assert failure("shpo:handler") == (
        f"no module 'shpo' in {tmp_path} or on the Python path: did you mean 'shop'?"
    )
    assert failure("nothing:handler") == f"no module 'nothing' in {tmp_path} or on the Python path"
    assert failure("shop.chat:handler") == (
        "no module 'shop.chat': 'shop' is a module, not a package"
    )


def test_missing_import_inside_is_told_from_a_missing_module(write_module: WriteModule) -> None:
    write_module("shop", "import os\nimport missing_library\n")

    assert failure("shop:handler") == (
        "cannot import 'shop': ModuleNotFoundError: No module named 'missing_library'"
        " (shop.py, line 2)"
    )


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("\nx = nothing\n", "NameError: name 'nothing' is not defined (shop.py, line 2)"),
        ("\n\ndef f(:\n", "SyntaxError: invalid syntax (shop.py, line 3)"),
        ("import json\njson.loads('x')", "JSONDecodeError"),
        ("raise SystemExit(3)", "SystemExit: 3 (shop.py, line 1)"),
    ],
)
def test_failing_module_names_file_and_line(
    write_module: WriteModule, source: str, problem: str
) -> None:
    write_module("shop", source)

    assert failure("shop:handler").startswith("cannot import 'shop': ")
    assert problem in failure("shop:handler")


def test_failing_module_names_the_line_of_the_application(write_module: WriteModule) -> None:
    write_module("shop", "import json\n\njson.loads('x')\n")

    assert failure("shop:handler").endswith("(shop.py, line 3)")


@pytest.mark.parametrize(
    ("attribute", "problem"),
    [
        ("handlr", "module 'shop' has no attribute 'handlr': did you mean 'handler'?"),
        ("hub.chatt", "'shop:hub' has no attribute 'chatt': did you mean 'chat'?"),
        ("answer", "shop:answer is not callable but of type int: a handler is an async function"),
        ("Hub", "shop:Hub is the class Hub: name an instance of it"),
        ("create_app", "shop:create_app has the parameters (): a handler is an async function"),
        ("asgi", "shop:asgi has the parameters (scope, receive, send): a handler is"),
        ("generator", "shop:generator is an async generator: a handler must not yield"),
        ("empty", "shop:empty is an empty mapping"),
        ("relative", "shop:relative has the key 'chat': paths are strings that begin with '/'"),
        ("wrong", "shop:wrong['/'] is not callable but of type int"),
    ],
)
def test_attribute_that_cannot_serve_is_refused(
    write_module: WriteModule, attribute: str, problem: str
) -> None:
    write_module("shop", APP)

    assert failure(f"shop:{attribute}").startswith(problem)


def test_missing_attribute_without_a_close_name_lists_handlers(write_module: WriteModule) -> None:
    write_module("shop", "async def serve_clients(websocket): ...")

    assert failure("shop:xyz") == (
        "module 'shop' has no attribute 'xyz': it has the async functions serve_clients"
    )


def test_asgi_app_is_found(write_module: WriteModule) -> None:
    write_module("app", APP)

    assert load_http(Target("app", "asgi")).__name__ == "asgi"


@pytest.mark.parametrize(
    ("attribute", "problem"),
    [
        ("answer", "app:answer is not callable but of type int: --http takes an ASGI app"),
        (
            "handler",
            "app:handler has the parameters (websocket): an ASGI app takes scope, receive and send",
        ),
        ("asgj", "module 'app' has no attribute 'asgj': did you mean 'asgi'?"),
    ],
)
def test_what_is_no_asgi_app_is_refused(
    write_module: WriteModule, attribute: str, problem: str
) -> None:
    write_module("app", APP)

    with pytest.raises(Failure, match=re.escape(problem)):
        load_http(Target("app", attribute))
