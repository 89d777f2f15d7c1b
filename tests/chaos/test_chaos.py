"""Every scenario of chaos, in a short form: two nodes, few clients, seconds of trouble."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.chaos.disk import why_no_disk
from tests.chaos.namespaces import why_no_namespaces
from tests.chaos.scenario import SHORT, Outcome, run
from tests.chaos.scenarios import SCENARIOS
