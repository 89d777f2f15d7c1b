"""The error that ends a command with one line and an exit code."""

from hubbub.errors import HubbubError

__all__ = ["FAILED", "USAGE", "Failure"]

FAILED = 1
"""Exit code: the command line was understood, but could not be carried out."""

USAGE = 2
"""Exit code: the command line itself is wrong, as for every Unix command."""


class Failure(HubbubError):
    """A command cannot go on; the operator reads the message, one line, and can act on it.

    Attributes:
        exit_code: What the process exits with: `FAILED` or `USAGE`.
    """

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code
