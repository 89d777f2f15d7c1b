"""How `hubbub run` logs: one line of text or one JSON object per record, on standard error.

Records carry text from strangers (paths, headers, messages of exceptions). In both formats it is
escaped, so no peer can write a line of the log or move the operator's cursor.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TextIO

from hubbub.cli.escape import escape, escape_json

__all__ = ["JsonFormatter", "LogFormat", "LogLevel", "TextFormatter", "configure_logs"]

# `websockets` logs two lines per connection at info, which is its debug here: at 4,000 connects
# per second nobody reads them, and they would cost more than the connections.
_VERBOSE_LOGGERS: Final = ("websockets", "uvicorn", "watchfiles", "asyncio")


class LogFormat(StrEnum):
    """Names of the formats, as in `--log-format`."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """Names of the levels, as in `--log-level`."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def number(self) -> int:
        """The level as `logging` counts it."""
        return logging.getLevelNamesMapping()[self.name]


def configure_logs(
    level: LogLevel,
    log_format: LogFormat,
    stream: TextIO | None = None,
    *,
    worker: int | None = None,
) -> None:
    """Send all logs of this process to one stream, in one format.

    Args:
        level: Least level that is logged. Loggers of libraries that are chatty at info are kept
            at warning unless it is debug.
        log_format: Text for people, JSON for collectors.
        stream: Where to; `None`: standard error.
        worker: Number of this process among several, which each record carries.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    formatter = JsonFormatter if log_format is LogFormat.JSON else TextFormatter
    handler.setFormatter(formatter(worker))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.number)
    for name in _VERBOSE_LOGGERS:
        least = level.number if level is LogLevel.DEBUG else max(level.number, logging.WARNING)
        logging.getLogger(name).setLevel(least)


class TextFormatter(logging.Formatter):
    """`TIME LEVEL LOGGER: MESSAGE`; lines of a traceback follow, each behind a bar.

    Of worker 2 it is `TIME LEVEL 2 LOGGER: MESSAGE`.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = "" if worker is None else f"{worker} "

    def format(self, record: logging.LogRecord) -> str:
        """Write one record; only its first line begins with a time."""
        head = f"{_timestamp(record)} {record.levelname:<8} {self._worker}{escape(record.name)}"
        lines = [f"{head}: {escape(record.getMessage())}"]
        # A message of an exception may span lines, and a peer may have chosen it: the bar tells
        # them from records.
        if exception := _exception_text(record):
            lines += [f"    | {escape(line)}" for line in exception.split("\n")]
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """One object per line: `time`, `level`, `logger`, `message`, and `exception` if there is one.

    `time` is RFC 3339 in UTC with microseconds; `exception` is the traceback as Python prints it.
    Workers add `worker`, their number.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """Serialize one record on one line."""
        fields: dict[str, object] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._worker,
            "message": record.getMessage(),
        }
        if exception := _exception_text(record):
            fields["exception"] = exception
        return escape_json(json.dumps(fields, ensure_ascii=False))


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _exception_text(record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info and record.exc_info[1] is not None:
        parts.append("".join(traceback.format_exception(record.exc_info[1])).rstrip("\n"))
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)
