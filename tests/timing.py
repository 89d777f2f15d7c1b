"""The unit of time of the tests: every timeout is a multiple of `MS`."""

import os

__all__ = ["MS"]

# Seconds. A slow or noisy machine stretches it: HUBBUB_TESTS_MS=5 makes every timeout five times
# as long. Timeouts bound a test that hangs; no test waits for one to pass.
MS = 0.001 * float(os.environ.get("HUBBUB_TESTS_MS", "1"))
