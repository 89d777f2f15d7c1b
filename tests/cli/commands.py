"""`hubbub` as a child process: its lines awaited, its end bounded."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL, Signals
from typing import IO

from tests.timing import MS

__all__ = ["TIMEOUT", "Command", "hubbub"]

TIMEOUT = 20_000 * MS


class Lines:
    """What a child writes to one of its streams, collected by a thread."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        # A daemon: if `close` fails for a process that outlived its parent, pytest must still end.
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def text(self) -> str:
        with self._changed:
            return "\n".join(self._lines)

    def wait_for(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Wait until `times` lines match, and return the last match."""
        deadline = time.monotonic() + TIMEOUT
        with self._changed:
            while True:
                found = [match for line in self._lines if (match := re.search(pattern, line))]
                if len(found) >= times:
                    return found[times - 1]
                left = deadline - time.monotonic()
                if self._ended or left <= 0 or not self._changed.wait(left):
                    raise AssertionError(f"no {pattern!r} in: {self._lines}")

    def close(self) -> None:
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive(), "a process that outlived hubbub holds its output"
        self._stream.close()

    def _read(self) -> None:
        for line in self._stream:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class Command:
    """A running `hubbub`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.stdout = Lines(process.stdout)
        self.stderr = Lines(process.stderr)

    @property
    def port(self) -> int:
        """The port that the banner names."""
        return int(self.stdout.wait_for(r"wss?://\S+:(\d+)")[1])

    @property
    def url(self) -> str:
        """The address that the banner names, by number: a client need not try IPv6 first."""
        return f"ws://127.0.0.1:{self.port}"

    def send(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def end_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def signal(self, number: Signals) -> None:
        self.process.send_signal(number)

    def signal_until_end(self, number: Signals) -> None:
        """Send a signal again and again, as an impatient person presses Ctrl+C."""
        deadline = time.monotonic() + TIMEOUT
        while self.process.poll() is None and time.monotonic() < deadline:
            self.process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(100 * MS)

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait(TIMEOUT)
        self.stdout.close()
        self.stderr.close()
        return code


@contextmanager
def hubbub(
    *arguments: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    fds: Sequence[int] = (),
) -> Iterator[Command]:
    """Run `hubbub`; what still runs when the block ends is killed."""
    clean = {name: value for name, value in os.environ.items() if "HUBBUB" not in name}
    process = subprocess.Popen(
        [sys.executable, "-P", "-W", "error", "-m", "hubbub", *arguments],
        cwd=cwd,
        env={**clean, **(env or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        pass_fds=fds,
        start_new_session=True,
    )
    command = Command(process)
    try:
        yield command
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, SIGKILL)  # its children too, if it could not end them
        process.wait()
        assert process.stdin is not None
        process.stdin.close()
        command.stdout.close()
        command.stderr.close()
