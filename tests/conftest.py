"""What every test folder shares: the event loops, and the watch for leaks."""

import asyncio
import gc
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from tests.timing import MS

# The folders whose tests run on every loop: they are about what we ask of a loop.
EVERY_LOOP = frozenset({Path(__file__).parent / "server"})

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def loop_factories() -> dict[str, LoopFactory]:
    """Return the event loops of this machine, hubbub's default first."""
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    if sys.platform != "win32" and sys.implementation.name == "cpython":
        import uvloop

        factories = {"uvloop": uvloop.new_event_loop, **factories}
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
    """Set aside what collecting built, so that a full collection per test is cheap.

    Measured with tests/autobahn and tests/interop collected: 65 ms without, 4 ms with.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    """Fail a test that leaves a thread, or a socket or task that nobody refers to.

    Of the latter, the collection makes ResourceWarnings and "never retrieved" reports while this
    test runs; pytest turns them into its failure (`filterwarnings = error`).
    """
    before = set(threading.enumerate())
    yield
    leaked = [thread for thread in set(threading.enumerate()) - before if thread.is_alive()]
    for thread in leaked:
        thread.join(100 * MS)
    leaked = [thread for thread in leaked if thread.is_alive()]
    gc.collect()
    assert not leaked, f"the test leaked threads: {leaked}"


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest, no_leaked_threads: None) -> None:
    """Watch over the tasks of an async test, from before its fixtures to after them."""
    node = request.node
    if not pytest_asyncio.is_async_test(node):
        return
    marker = node.get_closest_marker("asyncio")
    assert marker is not None, "is_async_test() says so"
    if marker.kwargs.get("loop_scope", "function") == "function":
        request.getfixturevalue("no_leaked_tasks")


@pytest_asyncio.fixture
async def no_leaked_tasks() -> AsyncGenerator[None]:
    """Fail a test that leaves an asyncio task behind on its own loop.

    A task about to end is no leak: the last callbacks of a closed connection may be on their way.
    """
    before = asyncio.all_tasks()
    yield
    leaked = asyncio.all_tasks() - before - {asyncio.current_task()}
    if leaked:
        _, leaked = await asyncio.wait(leaked, timeout=100 * MS)
    for task in leaked:
        task.cancel()
    assert not leaked, f"the test leaked tasks: {leaked}"
