"""What is done to a hub while it is verified: functions, or commands of a shell."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hubbub.cli.failure import Failure

__all__ = ["COMMAND_TIMEOUT", "Action", "commands_in_turn"]

COMMAND_TIMEOUT: Final = 120.0
"""Default of the longest time that a command may take, in seconds."""


# Bytes of a failed command's standard error that the report has.
_MAX_SAID: Final = 500


@dataclass(frozen=True, slots=True)
class Action:
    """Something to be done during a run.

    Attributes:
        at: Seconds after the first publication. One that is late holds up those after it.
        name: For the report.
        run: What is done. A `Failure` goes into the report, and the verdict is not good then;
            anything else that it raises ends the run.
    """

    at: float
    name: str
    run: Callable[[], Awaitable[None]]


def commands_in_turn(
    commands: Sequence[str],
    interval: float,
    seconds: float,
    timeout: float = COMMAND_TIMEOUT,
) -> list[Action]:
    """Plan commands of a shell: one after the other, from the first again after the last.

    Args:
        interval: Seconds before the first and between any two.
        seconds: Only before this time; a command shortly before it counts with what it causes.
        timeout: Longest time of a command in seconds; then it is killed with its children.
    """
    if not commands:
        return []
    return [
        _command(commands[turn % len(commands)], (turn + 1) * interval, timeout)
        for turn in range(max(0, int((seconds - 1e-9) / interval)))
    ]


def _command(command: str, at: float, timeout: float) -> Action:
    return Action(at, command, lambda: _run(command, timeout))


async def _run(command: str, seconds: float) -> None:
    """Run a command to its end; what it leaves in the background lives on.

    Raises:
        Failure: It ends with another code than 0, or not in time.
    """
    # Not our own standard error, nor a pipe: what lives on in the background would keep it open,
    # and whoever reads the report from a pipe would wait for that.
    with tempfile.TemporaryFile() as errors:
        # A group of its own: Ctrl+C is for us, and what hangs is killed as a whole.
        process = await asyncio.create_subprocess_shell(
            command, stdin=DEVNULL, stdout=DEVNULL, stderr=errors, start_new_session=True
        )
        try:
            async with asyncio.timeout(seconds):
                code = await process.wait()
        except TimeoutError as exc:
            raise Failure(f"did not end within {seconds:g} s") from exc
        finally:
            await _kill(process)
        if code:
            errors.seek(0)
            said = errors.read(_MAX_SAID).decode(errors="replace").strip()
            raise Failure(f"exit code {code}: {said}" if said else f"exit code {code}")


async def _kill(process: Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
