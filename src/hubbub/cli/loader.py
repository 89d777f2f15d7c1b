"""What `module:attribute` names: imported, checked, and explained when it is not there."""

import importlib
import inspect
import logging
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from starlette.types import ASGIApp

from hubbub import ServerConnection
from hubbub.cli.failure import Failure

__all__ = ["Application", "Handler", "Target", "load", "load_http"]

Handler = Callable[[ServerConnection], Awaitable[None]]
Application = Handler | Mapping[str, Handler]

logger = logging.getLogger("hubbub.cli")


@dataclass(frozen=True, slots=True)
class Target:
    """Where an application is: a module and an attribute in it, both possibly dotted."""

    module: str
    attribute: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `module:attribute`.

        Raises:
            Failure: It is not of this form.
        """
        module, colon, attribute = text.partition(":")
        if not colon or not module or not attribute:
            example = f"{module.removesuffix('.py') or 'app'}:{attribute or 'handler'}"
            raise Failure(f"'{text}' is not of the form module:attribute, for example {example}")
        if module.endswith(".py") or "/" in module or os.sep in module:
            dotted = module.removesuffix(".py").strip("./").replace(os.sep, ".").replace("/", ".")
            raise Failure(f"'{module}' is a path, not a module: write {dotted}:{attribute}")
        if not all(name.isidentifier() for name in [*module.split("."), *attribute.split(".")]):
            raise Failure(f"'{text}' is not of the form module:attribute, for example app:handler")
        return cls(module, attribute)

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}"


def load(target: Target) -> Application:
    """Import the application that `target` names; the working directory comes first.

    Returns:
        A handler or a mapping of paths to handlers, never empty, paths beginning with a slash.

    Raises:
        Failure: There is no such module or attribute, the module fails while it is imported, or
            what is there cannot serve connections.
    """
    found = _find(target)
    if isinstance(found, Mapping):
        return _checked_mapping(found, target)
    _check_handler(found, f"{target}")
    return found  # type: ignore[no-any-return]  # just checked, as far as it can be


def load_http(target: Target) -> ASGIApp:
    """Import the ASGI app that `target` names; the working directory comes first.

    Raises:
        Failure: There is no such module or attribute, the module fails while it is imported, or
            what is there cannot be called with scope, receive and send.
    """
    found = _find(target)
    kind = type(found).__name__
    if not callable(found):
        raise Failure(f"{target} is not callable but of type {kind}: --http takes an ASGI app")
    parameters = _unfit(found, 3)
    if parameters is not None:
        problem = f"has the parameters {parameters}: an ASGI app takes scope, receive and send"
        raise Failure(f"{target} {problem}")
    return found  # type: ignore[no-any-return]  # just checked, as far as it can be


def _find(target: Target) -> Any:
    _import_from(Path.cwd())
    return _attribute(_module(target.module), target)


def _import_from(directory: Path) -> None:
    if sys.path[:1] != [str(directory)]:
        sys.path.insert(0, str(directory))


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        # The module itself or a package around it; another name is an import inside of it.
        if exc.name is not None and f"{name}.".startswith(f"{exc.name}."):
            raise Failure(_missing_module(name, exc)) from exc
        raise Failure(_broken_module(name, exc)) from exc
    except (Exception, SystemExit) as exc:
        raise Failure(_broken_module(name, exc)) from exc


def _missing_module(name: str, exc: ModuleNotFoundError) -> str:
    if "is not a package" in str(exc):
        return f"no module '{name}': '{name.rpartition('.')[0]}' is a module, not a package"
    here = Path.cwd()
    names = [path.stem for path in here.glob("*.py")]
    names += [path.parent.name for path in here.glob("*/__init__.py")]
    return f"no module '{exc.name}' in {here} or on the Python path{_suggest(str(exc.name), names)}"


def _broken_module(name: str, exc: BaseException) -> str:
    logger.debug("cannot import %s", name, exc_info=exc)
    if isinstance(exc, SyntaxError) and exc.filename:
        # Its traceback ends in importlib; the place is in the exception.
        return _broken(name, f"{type(exc).__name__}: {exc.msg}", exc.filename, exc.lineno)
    problem = traceback.format_exception_only(exc)[-1].strip()
    frames = [
        frame
        for frame in traceback.extract_tb(exc.__traceback__)
        if not frame.filename.startswith("<frozen importlib")
        and frame.filename not in (__file__, importlib.__file__)
    ]
    here = str(Path.cwd()) + os.sep
    own = [frame for frame in frames if frame.filename.startswith(here)] or frames
    if not own:
        return f"cannot import '{name}': {problem}"
    return _broken(name, problem, own[-1].filename, own[-1].lineno)


def _broken(name: str, problem: str, filename: str, line: int | None) -> str:
    path = Path(filename)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"cannot import '{name}': {problem} ({shown}, line {line})"


def _attribute(module: ModuleType, target: Target) -> Any:
    found: Any = module
    where = f"module '{target.module}'"
    for name in target.attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as exc:
            names = [known for known in dir(found) if not known.startswith("_")]
            hint = _suggest(name, names) or _handlers(found, names)
            raise Failure(f"{where} has no attribute '{name}'{hint}") from exc
        where = f"'{target.module}:{name}'"
    return found


def _handlers(owner: object, names: Iterable[str]) -> str:
    handlers = [name for name in names if inspect.iscoroutinefunction(getattr(owner, name, None))]
    return f": it has the async functions {', '.join(handlers[:5])}" if handlers else ""


def _suggest(name: str, names: Iterable[str]) -> str:
    close = get_close_matches(name, sorted(set(names)), n=1)
    return f": did you mean '{close[0]}'?" if close else ""


def _checked_mapping(found: Mapping[Any, Any], target: Target) -> Mapping[str, Handler]:
    if not found:
        raise Failure(f"{target} is an empty mapping: it must map paths to handlers")
    for path, handler in found.items():
        if not isinstance(path, str) or not path.startswith("/"):
            raise Failure(f"{target} has the key {path!r}: paths are strings that begin with '/'")
        _check_handler(handler, f"{target}[{path!r}]")
    return found


def _check_handler(found: object, name: str) -> None:
    """Refuse what would fail at every connection, as far as it can be seen before the first."""
    wanted = "a handler is an async function that takes the connection"
    if isinstance(found, type):
        raise Failure(f"{name} is the class {found.__name__}: name an instance of it")
    if not callable(found):
        raise Failure(f"{name} is not callable but of type {type(found).__name__}: {wanted}")
    if inspect.isasyncgenfunction(found):
        raise Failure(f"{name} is an async generator: a handler must not yield")
    parameters = _unfit(found, 1)
    if parameters is not None:
        raise Failure(f"{name} has the parameters {parameters}: {wanted}")


def _unfit(function: Callable[..., Any], count: int) -> inspect.Signature | None:
    """Return the parameters of a function that cannot be called with `count` arguments."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        return None  # some callables written in C have none
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return signature
    return None
