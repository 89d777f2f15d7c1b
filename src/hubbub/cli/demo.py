"""`hubbub demo`: Hello World, and the example applications chat and live, on one page and port."""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Final

from starlette.applications import Starlette
from starlette.routing import Mount

from hubbub.brokers.opening import BROKER_VARIABLE, DEFAULT_BROKER, open_broker
from hubbub.cli.banner import print_banner
from hubbub.cli.failure import Failure
from hubbub.cli.hello import say_hello
from hubbub.cli.listening import AssignedSockets, ListenAddress, Listener, TcpAddress
from hubbub.cli.loader import Application
from hubbub.cli.logs import LogFormat, LogLevel, configure_logs
from hubbub.cli.options import (
    DEFAULT_DRAIN,
    DEFAULT_HOST,
    DEFAULT_PORT,
    BrokerOption,
    HostOption,
    PortOption,
    WorkersOption,
)
from hubbub.cli.serving import serve_application
from hubbub.cli.supervising import serve_in_workers, use_broker
from hubbub.clock import SystemClock
from hubbub.http import pages
from hubbub.workers.assignment import Assignment

__all__ = ["demo"]

_CHAT: Final = "chat"
_LIVE: Final = "live"


def demo(
    host: HostOption = DEFAULT_HOST,
    port: PortOption = DEFAULT_PORT,
    broker: BrokerOption = None,
    workers: WorkersOption = 1,
) -> None:
    """Serve a page with Hello World, a chat and live data."""
    assignment = Assignment.take()
    configure_logs(
        LogLevel.WARNING,
        LogFormat.TEXT,
        worker=None if assignment is None else assignment.number,
    )
    if assignment is None:  # a worker's was checked, and is in its environment
        use_broker(broker)
    address = TcpAddress(host, port)
    if assignment is not None:
        _serve(AssignedSockets(assignment.fds), lambda listener: None)
    elif workers > 1:
        serve_in_workers(["demo"], workers, address, DEFAULT_DRAIN, _announce)
    else:
        _serve(address, _announce)


def _serve(address: ListenAddress, announce: Callable[[Listener], None]) -> None:
    application, http = _compose()
    serve_application(application, address, None, announce, http=http, drain=DEFAULT_DRAIN)


def _announce(listener: Listener) -> None:
    print_banner(listener, "open the page in two windows, and chat", secure=False)


def _compose() -> tuple[Application, Starlette]:
    """Put the examples side by side: each has its pages and its hub below its name."""
    examples = {_CHAT: _load_example(_CHAT)}
    with _broker_for_another_hub():
        examples[_LIVE] = _load_example(_LIVE)
    application = {"/": say_hello} | {
        f"/{name}{path}": handler
        for name, example in examples.items()
        for path, handler in example.routes.items()
    }
    page = pages(Path(str(resources.files("hubbub").joinpath("web", "demo"))))
    mounted = [Mount(f"/{name}", example.http) for name, example in examples.items()]
    return application, Starlette(routes=[*mounted, Mount("/", page)])


@contextlib.contextmanager
def _broker_for_another_hub() -> Iterator[None]:
    """Let the next hub have memory instead of a store that the first has for itself."""
    url = os.environ.get(BROKER_VARIABLE)
    broker = open_broker(url, SystemClock())
    if broker.alone and not broker.local:
        os.environ[BROKER_VARIABLE] = DEFAULT_BROKER
    try:
        yield
    finally:
        if url is not None:
            os.environ[BROKER_VARIABLE] = url


def _load_example(name: str) -> ModuleType:
    """Import an example application by its file."""
    module = f"hubbub_demo_{name}"
    spec = importlib.util.spec_from_file_location(module, _find_example(name))
    assert spec is not None, "a .py file"
    assert spec.loader is not None, "a .py file"
    example = sys.modules[module] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(example)
    except ModuleNotFoundError as exc:
        if exc.name != "psutil":
            raise
        raise Failure("hubbub demo needs psutil: pip install 'hubbub[demo]'") from exc
    return example


def _find_example(name: str) -> Path:
    """Find it in the package, where a wheel has it, or in the repository."""
    packaged = Path(str(resources.files("hubbub").joinpath("examples")))
    folder = packaged if packaged.is_dir() else Path(__file__).parents[3] / "examples"
    return folder / name / f"{name}.py"
