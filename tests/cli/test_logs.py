import io
import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hubbub.cli.escape import is_safe
from hubbub.cli.logs import JsonFormatter, LogFormat, LogLevel, TextFormatter, configure_logs


@pytest.fixture
def loggers() -> Iterator[None]:
    """Leave logging as it was."""
    root = logging.getLogger()
    names = ["websockets", "uvicorn", "watchfiles", "asyncio"]
    before = root.handlers[:], root.level, [logging.getLogger(name).level for name in names]
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    for name, level in zip(names, before[2], strict=True):
        logging.getLogger(name).setLevel(level)


def record(message: str, exception: BaseException | None = None) -> logging.LogRecord:
    info = (type(exception), exception, exception.__traceback__) if exception else None
    made = logging.LogRecord("shop", logging.WARNING, "shop.py", 1, "%s", (message,), info)
    made.created = datetime(2026, 2, 3, 4, 5, 6, 789, UTC).timestamp()
    return made


def raised(message: str) -> BaseException:
    try:
        raise ValueError(message)
    except ValueError as exc:
        return exc


def test_text_record_is_one_line() -> None:
    assert TextFormatter().format(record("a\nb\x1b[2J")) == (
        r"2026-02-03T04:05:06.000789Z WARNING  shop: a\nb\x1b[2J"
    )


@given(st.text(), st.text())
def test_text_lines_of_exceptions_cannot_be_taken_for_records(message: str, reason: str) -> None:
    first, *rest = TextFormatter().format(record(message, raised(reason))).splitlines()

    assert first.startswith("2026-02-03T04:05:06.000789Z WARNING  shop: ")
    assert rest[0] == "    | Traceback (most recent call last):"
    assert all(line.startswith("    | ") for line in rest)


def test_json_record_has_the_documented_members() -> None:
    assert json.loads(JsonFormatter().format(record("sold"))) == {
        "time": "2026-02-03T04:05:06.000789Z",
        "level": "warning",
        "logger": "shop",
        "message": "sold",
    }


@given(st.text(), st.text())
@example("\x7f\x85\u2028\u202e", "")
def test_json_record_is_one_line_that_keeps_the_message(message: str, reason: str) -> None:
    line = JsonFormatter().format(record(message, raised(reason)))
    members = json.loads(line)

    assert all(map(is_safe, line))
    assert members["message"] == message
    assert members["exception"].startswith("Traceback (most recent call last):")
    assert members["exception"].endswith(reason.rstrip("\n"))


@pytest.mark.usefixtures("loggers")
def test_configure_logs_quiets_libraries_unless_debugging() -> None:
    stream = io.StringIO()

    configure_logs(LogLevel.INFO, LogFormat.TEXT, stream)
    logging.getLogger("websockets.server").info("connection open")
    logging.getLogger("shop").info("sold")
    logging.getLogger("shop").debug("counted")

    assert stream.getvalue().endswith("INFO     shop: sold\n")
    assert len(stream.getvalue().splitlines()) == 1

    configure_logs(LogLevel.DEBUG, LogFormat.TEXT, stream)
    logging.getLogger("websockets.server").debug("connection open")

    assert stream.getvalue().endswith("DEBUG    websockets.server: connection open\n")


@pytest.mark.usefixtures("loggers")
def test_configure_logs_replaces_its_handler() -> None:
    configure_logs(LogLevel.INFO, LogFormat.JSON)
    configure_logs(LogLevel.ERROR, LogFormat.JSON)

    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    assert handler.stream is sys.stderr
    assert logging.getLogger().level == logging.ERROR


def test_records_of_a_worker_have_its_number() -> None:
    text = TextFormatter(2).format(record("hello"))
    fields = json.loads(JsonFormatter(2).format(record("hello")))

    assert text == "2026-02-03T04:05:06.000789Z WARNING  2 shop: hello"
    assert fields["worker"] == 2
    assert list(fields) == ["time", "level", "logger", "worker", "message"]
