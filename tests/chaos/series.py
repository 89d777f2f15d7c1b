"""Scenarios, some at a time, each in a folder of its own."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.chaos.scenario import Outcome, Scale, Scenario, run
from tests.interop import javascript_sdk

__all__ = ["run_series"]


async def run_series(
    scenarios: Iterable[Scenario],
    scale: Scale,
    folder: Path,
    javascript: javascript_sdk.Node | None,
    side_by_side: int = 1,
    on_end: Callable[[Scenario, Outcome | Exception], object] = lambda scenario, outcome: None,
) -> dict[str, Outcome | Exception]:
    """Run scenarios; one that fails to run is no reason not to run the others.

    Args:
        folder: For what programs write.
        side_by_side: How many at a time.
        on_end: Called after each.

    Returns:
        What came of each, by its name; why it could not be run is an exception.
    """
    slots = asyncio.Semaphore(side_by_side)
    outcomes: dict[str, Outcome | Exception] = {}

    async def one(scenario: Scenario) -> None:
        async with slots:
            # A Unix socket's name has to be short.
            own = folder / f"{len(list(folder.iterdir()))}"
            own.mkdir()
            try:
                outcome: Outcome | Exception = await run(scenario, scale, own, javascript)
            except Exception as exc:
                exc.add_note(_logs(own))
                outcome = exc
            outcomes[scenario.name] = outcome
            on_end(scenario, outcome)

    # Connections that are cut are what this is about.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    async with asyncio.TaskGroup() as group:
        for scenario in scenarios:
            group.create_task(one(scenario))
    return outcomes


def _logs(folder: Path, lines: int = 20) -> str:
    """Return what programs have written last."""
    ends = [
        f"{path.name}:\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
        for path in sorted(folder.glob("*.log"))
    ]
    return "\n\n".join(ends)
