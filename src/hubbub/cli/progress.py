"""A bar on standard error while a load runs."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from hubbub.cli.loops import run_async

__all__ = ["run_with_progress"]

T = TypeVar("T")


def run_with_progress(
    run: Callable[[Callable[[float, int], None]], Coroutine[Any, Any, T]],
    seconds: float,
    unit: str,
) -> T:
    """Run a load to its end, with a bar if standard error is a terminal.

    Args:
        run: Called with a function that takes how many seconds have passed, and a count.
        seconds: How long it takes.
        unit: What is counted, in the plural.
    """
    console = Console(stderr=True)
    columns = (
        BarColumn(),
        TextColumn("{task.fields[count]:,} {task.description}"),
        TimeRemainingColumn(),
    )
    # No refresh thread: drawing must not compete with what is measured more than it has to.
    with Progress(
        *columns,
        console=console,
        transient=True,
        auto_refresh=False,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(unit, total=seconds, count=0)

        def show(elapsed: float, count: int) -> None:
            progress.update(task, completed=elapsed, count=count, refresh=True)

        return run_async(run(show))
