"""Open files: how many this process may have, which bounds the connections of a load."""

import sys
from typing import Final

from hubbub.cli.failure import Failure

__all__ = ["allow_descriptors"]

# Descriptors of this process that are no connections, generously.
_OTHERS: Final = 64


def allow_descriptors(connections: int, options: str) -> None:
    """Raise the limit of open files as far as the system lets an ordinary process.

    Args:
        connections: How many will be open at the same time.
        options: The options that asked for so many, for the error.

    Raises:
        Failure: The system does not allow so many.
    """
    if sys.platform == "win32":
        return
    import resource  # does not exist on Windows

    wanted = connections + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise Failure(
            f"{options} needs {wanted} open files, the system allows {hard}: raise `ulimit -n`"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
