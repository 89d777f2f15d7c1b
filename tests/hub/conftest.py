"""Both wire formats, and a watch over the hub's log."""

import logging
from collections.abc import Iterator

import pytest

from hubbub.testing import FakeClock
from tests.hub.raw import CODECS, Dialect


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> Dialect:
    return CODECS[request.param]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(autouse=True)
def no_errors_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test that logged an error and did not `caplog.clear()` it."""
    yield
    errors = [
        record.getMessage()
        for record in caplog.get_records("call")
        if record.levelno >= logging.ERROR
    ]
    assert not errors, f"the test logged errors: {errors}"
