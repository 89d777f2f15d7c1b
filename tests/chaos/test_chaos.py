"""Every scenario of chaos in a short form: two nodes, few clients, seconds of trouble."""

import asyncio
import sys
from pathlib import Path

import pytest

from tests.chaos.needs import why_not
from tests.chaos.scenario import SHORT
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.series import run_series
from tests.interop import javascript_sdk
from tests.tools import absent, find_node

# At once: all of them mostly wait, but starting a node takes a good second of a core.
SIDE_BY_SIDE = 5


@pytest.mark.skipif(sys.platform != "linux", reason="chaos is made of Linux's parts")
def test_hubs_in_trouble_keep_their_promises(tmp_path: Path, subtests: pytest.Subtests) -> None:
    node = find_node(Path(javascript_sdk.__file__).parent)
    chosen = [each for each in SCENARIOS.values() if not why_not(each)]
    with javascript_sdk.node_process(node) as javascript:
        outcomes = asyncio.run(run_series(chosen, SHORT, tmp_path, javascript, SIDE_BY_SIDE))

    for name, scenario in SCENARIOS.items():
        with subtests.test(name):
            reason = why_not(scenario)
            if reason:
                absent(reason)
            outcome = outcomes[name]
            if isinstance(outcome, Exception):
                raise outcome
            assert outcome.problems == []
            # Real SDKs have seen it too, in both languages and formats.
            assert outcome.sdks == 4
            assert outcome.sdk_deliveries >= outcome.sdk_acknowledged > 0
