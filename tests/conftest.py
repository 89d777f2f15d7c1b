"""What every test folder shares: the event loops, and the watch for leaks."""

import asyncio
import gc
import sys
import threading
import warnings
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.timing import MS

# The folders whose tests run on every loop: they are about what we ask of a loop.
EVERY_LOOP = frozenset({Path(__file__).parent / "server"})

# What is about to end is no leak: the last callbacks of a closed connection may be on their way.
ENDING_TIMEOUT = 100 * MS

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def loop_factories() -> dict[str, LoopFactory]:
    """Return the event loops of this machine, hubbub's default first."""
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    if sys.platform != "win32" and sys.implementation.name == "cpython":
        import uvloop

        class Loop(uvloop.Loop):
            """uvloop without its debug mode from CPython 3.12 on.

            It crashes the interpreter there when an asynchronous generator is collected:
            https://github.com/MagicStack/uvloop/issues/730. Until that is fixed, the asyncio loop
            alone runs in debug mode.
            """

            def set_debug(self, enabled: bool) -> None:
                super().set_debug(enabled and sys.version_info < (3, 12))

        factories = {"uvloop": Loop, **factories}
    return factories


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, LoopFactory]:
    """Run a test on hubbub's default loop; on all of them in the folders of `EVERY_LOOP`.

    A test elsewhere chooses with `@pytest.mark.asyncio(loop_factories=["uvloop", "asyncio"])`.
    """
    factories = loop_factories()
    marker = item.get_closest_marker("asyncio")
    chooses = marker is not None and "loop_factories" in marker.kwargs
    if chooses or not EVERY_LOOP.isdisjoint(item.path.parents):
        return factories
    default = next(iter(factories))
    return {default: factories[default]}


def pytest_collection_finish(session: pytest.Session) -> None:
    """Set aside what collecting built, so that a full garbage collection per test is cheap."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest, no_leaked_resources: ExitStack) -> None:
    """Watch over every test, from before its fixtures to after them.

    The tasks of a test on a loop that it shares with others are not watched.
    """
    if not pytest_asyncio.is_async_test(request.node):
        return
    marker = request.node.get_closest_marker("asyncio")
    assert marker is not None, "pytest-asyncio marks what it runs"
    if marker.kwargs.get("loop_scope", "function") == "function":
        request.getfixturevalue("no_leaked_tasks")


@pytest.fixture
def no_leaked_resources() -> Iterator[ExitStack]:
    """Fail a test that leaves a thread, a socket, a transport or a file behind.

    Yields a stack that is unwound after all else of the test, its event loop included.
    """
    before = set(threading.enumerate())
    with ExitStack() as last:
        yield last
        # Closes cycles: what nobody refers to any more warns now, in the test that left it.
        gc.collect()
    threads = {thread for thread in threading.enumerate() if thread not in before}
    for thread in threads:
        thread.join(ENDING_TIMEOUT)
    leaked = [thread for thread in threads if thread.is_alive()]
    assert not leaked, f"the test leaked threads: {leaked}"


@pytest_asyncio.fixture
async def no_leaked_tasks(no_leaked_resources: ExitStack) -> AsyncGenerator[None]:
    """Fail a test that leaves a task on its loop, or an error that only the loop heard of."""
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: errors.append(context))
    yield
    leaked = asyncio.all_tasks() - before - {asyncio.current_task()}
    if leaked:
        _, leaked = await asyncio.wait(leaked, timeout=ENDING_TIMEOUT)
    for task in leaked:
        task.cancel()
    gc.collect()  # a task whose exception nobody took says so when it goes
    loop.set_exception_handler(None)
    no_leaked_resources.enter_context(_RecordedWarnings())
    assert not leaked, f"the test leaked tasks: {leaked}"
    assert not errors, f"the test leaked errors: {errors}"


class _RecordedWarnings:
    """Collect warnings, and raise the first when the block has ended.

    uvloop 0.23 never returns from closing a loop with an open transport or server where
    ResourceWarning is an error: the exception keeps it from closing the transport.
    """

    def __enter__(self) -> None:
        self._catching = warnings.catch_warnings(record=True)
        recorded = self._catching.__enter__()
        assert recorded is not None, "record=True"
        self._recorded = recorded
        warnings.simplefilter("always")

    def __exit__(self, *exc_info: object) -> None:
        self._catching.__exit__(None, None, None)
        for warning in self._recorded:
            raise AssertionError(f"the test leaked: {warning.message}")
