"""Every scenario of chaos in a short form: two nodes, few clients, seconds of trouble.

They mostly wait, so they run side by side, before the first test; each test looks at one.
"""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.chaos.needs import why_not
from tests.chaos.scenario import SHORT, Outcome
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.series import run_series
from tests.interop import javascript_sdk
from tests.tools import absent, find_node

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="chaos is made of Linux's parts")

# At once: what they have in common are two cores.
SIDE_BY_SIDE = 5


@pytest.fixture(scope="module")
def outcomes(
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[str, Outcome | Exception]:
    """Run all scenarios that can be run here."""
    folder = tmp_path_factory.mktemp("chaos")
    chosen = [each for each in SCENARIOS.values() if not why_not(each)]
    node = find_node(Path(javascript_sdk.__file__).parent)
    with javascript_sdk.node_process(node) as javascript:
        return asyncio.run(run_series(chosen, SHORT, folder, javascript, SIDE_BY_SIDE))


@pytest.mark.parametrize("name", SCENARIOS)
def test_hub_in_trouble_keeps_its_promises(
    name: str, outcomes: Mapping[str, Outcome | Exception]
) -> None:
    reason = why_not(SCENARIOS[name])
    if reason:
        absent(reason)
    outcome = outcomes[name]
    if isinstance(outcome, Exception):
        raise outcome

    assert outcome.problems == []
    # Real SDKs have seen it too, in both languages and formats.
    assert outcome.sdks == 4
    assert outcome.sdk_deliveries >= outcome.sdk_acknowledged > 0
