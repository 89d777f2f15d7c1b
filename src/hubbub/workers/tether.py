"""A program that runs another one, which must not outlive whoever started it.

    python tether.py KIND PARENT PROGRAM ARGUMENT...

`exec` (Linux): the kernel kills the program when its parent, the process PARENT, dies.
`watch` (elsewhere): this program stays, and kills the other one at the end of its own input.

It is run by its path and imports nothing of hubbub's, so that it starts in a few milliseconds.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading

__all__ = ["tether"]

_PR_SET_PDEATHSIG = 1  # prctl(2)


def tether(kind: str, parent: int, command: list[str]) -> int:
    """Run a command; with `exec`, never return."""
    if kind == "exec":
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL):
            raise OSError(ctypes.get_errno(), "prctl")
        if os.getppid() != parent:
            return 1  # it died before
        os.execv(command[0], command)  # noqa: S606 - whatever we were given
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as program:  # noqa: S603 - the same

        def watch() -> None:
            while os.read(0, 64):
                pass
            program.kill()

        threading.Thread(target=watch, daemon=True).start()
        return program.wait()


if __name__ == "__main__":
    sys.exit(tether(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
