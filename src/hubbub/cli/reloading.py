"""Serving in a child process that is replaced when a Python file changes."""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from watchfiles import PythonFilter, watch

from hubbub.cli.failure import Failure
from hubbub.cli.serving import SHUTDOWN_TIMEOUT
from hubbub.cli.signals import on_stop_signals
from hubbub.workers.supervision import SUPERVISOR_FD

__all__ = ["serve_and_reload"]

# Longest time the old child gets to close its connections before the new one starts, in seconds:
# somebody has just saved a file and is waiting.
_RESTART_TIMEOUT: Final = 5.0

# How soon it is noticed that the child ended by itself.
_CHECK_MS: Final = 200

logger = logging.getLogger("hubbub.cli")


def serve_and_reload(arguments: Sequence[str], keep_fds: Sequence[int] = ()) -> None:
    """Run `hubbub` with `arguments` in a child until asked to stop; replace it at changes.

    A child that ends by itself, be it for a syntax error, has said why; the next change starts
    another one.

    Args:
        arguments: The child's command line, after `hubbub`.
        keep_fds: Descriptors that the child inherits under the same numbers.

    Raises:
        Failure: The working directory cannot be watched.
    """
    stop = threading.Event()
    child = _Child(arguments, keep_fds)
    on_stop_signals(stop.set, child.kill)
    watched = Path.cwd()
    logger.info("watching %s for changes of Python files", watched)
    child.start()
    try:
        changes = watch(
            watched,
            watch_filter=PythonFilter(),
            stop_event=stop,
            rust_timeout=_CHECK_MS,
            yield_on_timeout=True,
        )
        for changed in changes:
            if changed:
                logger.info("%s changed: restarting", _shown({path for _, path in changed}))
                child.stop(_RESTART_TIMEOUT)
                child.start()
            elif child.has_just_ended():
                logger.warning("the server ended: waiting for a change")
    except OSError as exc:  # inotify has a limit of watches
        raise Failure(f"--reload: cannot watch '{watched}': {exc}") from exc
    finally:
        # The child has its own limit for its handlers; this one is for a child that hangs.
        child.stop(SHUTDOWN_TIMEOUT + 1)


class _Child:
    """The serving process: one at a time."""

    def __init__(self, arguments: Sequence[str], keep_fds: Sequence[int]) -> None:
        # -P: `-m` would put the working directory first, where a `hubbub.py` may lie.
        self._command = [sys.executable, "-P", "-m", "hubbub", *arguments]
        self._keep_fds = keep_fds
        self._process: subprocess.Popen[bytes] | None = None
        self._tie: socket.socket | None = None
        self._end_seen = False

    def start(self) -> None:
        self._tie, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves, with checked options
                self._command,
                env={**os.environ, SUPERVISOR_FD: str(theirs.fileno())},
                pass_fds=(theirs.fileno(), *self._keep_fds),
            )
        self._end_seen = False

    def has_just_ended(self) -> bool:
        """Whether the process ended by itself; true once for each."""
        if self._end_seen or self._process is None or self._process.poll() is None:
            return False
        self._end_seen = True
        return True

    def stop(self, timeout: float) -> None:
        """Ask the process to stop, wait, and kill it after `timeout` seconds."""
        if self._process is None:
            return
        assert self._tie is not None
        self._tie.close()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            logger.warning("the server did not stop within %s s and was killed", timeout)
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, 9)


def _shown(paths: Iterable[str]) -> str:
    return ", ".join(sorted(os.path.relpath(path) for path in paths))
