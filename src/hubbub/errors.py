"""Every exception that hubbub raises on its own account, as one tree.

What a handler sees of its connection are the exceptions of `websockets`: `ConnectionClosed`,
`ConcurrencyError`, `ProtocolError` keep their names and meanings (ADR 0002).
"""

__all__ = ["ConfigError", "HubbubError", "StartupError", "WriteLimitExceeded"]


class HubbubError(Exception):
    """Base of all exceptions that hubbub defines."""


class ConfigError(HubbubError):
    """An operator's setting cannot be used.

    Attributes:
        option: Name of the setting, as the operator wrote it (`--port`, `HUBBUB_PORT`).
        problem: What is wrong with it and what would be right.
    """

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(f"{option}: {problem}")
        self.option = option
        self.problem = problem


class StartupError(HubbubError):
    """A part of the server could not start; nothing listens.

    Attributes:
        part: What failed: `http` is the ASGI application.
    """

    def __init__(self, part: str, problem: str) -> None:
        super().__init__(f"{part}: {problem}")
        self.part = part
        self.problem = problem


class WriteLimitExceeded(HubbubError):
    """A message was refused because the peer does not read fast enough.

    Attributes:
        buffered: Bytes that wait to be sent.
        limit: High-water mark in bytes, the `write_limit` option of `serve`.
    """

    def __init__(self, buffered: int, limit: int) -> None:
        super().__init__(f"{buffered} bytes wait to be sent, over write_limit={limit}")
        self.buffered = buffered
        self.limit = limit
