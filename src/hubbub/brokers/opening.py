"""Brokers by URL: what an operator writes, and which broker it means."""

import os
from collections.abc import Callable, Mapping

from hubbub.brokers.base import Broker
from hubbub.brokers.memory import MemoryBroker
from hubbub.clock import Clock
from hubbub.errors import ConfigError

__all__ = [
    "BROKER_VARIABLE",
    "DEFAULT_BROKER",
    "SCHEMES",
    "WORKER_VARIABLE",
    "check_reach",
    "open_broker",
]

BROKER_VARIABLE = "HUBBUB_BROKER"
"""Environment variable with the URL of hubs that are made without one."""

WORKER_VARIABLE = "HUBBUB_WORKER"
"""Environment variable of worker processes: which of how many, `2/4`."""

DEFAULT_BROKER = "memory:"
"""URL of hubs that are made without one, where the variable is not set."""


def _memory(url: str, clock: Clock) -> Broker:
    if url != "memory:":
        raise ConfigError("broker", f"{url!r} should be 'memory:', which takes no address")
    return MemoryBroker(clock=clock)


def _sqlite(url: str, clock: Clock) -> Broker:
    # Not above: Python can be built without SQLite, and then this broker alone is missing.
    try:
        from hubbub.brokers.sqlite import open_sqlite
    except ImportError as exc:
        raise ConfigError("broker", f"{url!r} needs Python's sqlite3: {exc}") from exc
    return open_sqlite(url, clock)


def _redis(url: str, clock: Clock) -> Broker:
    try:
        from hubbub.brokers.redis.broker import RedisBroker
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] not in ("redis", "hiredis"):
            raise
        raise ConfigError(
            "broker", "Valkey and Redis need the extra: pip install 'hubbub[redis]'"
        ) from exc
    return RedisBroker(url)


SCHEMES: Mapping[str, Callable[[str, Clock], Broker]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "redis": _redis,
    "rediss": _redis,
    "unix": _redis,
    "redis+sentinel": _redis,
    "rediss+sentinel": _redis,
    "redis+cluster": _redis,
    "rediss+cluster": _redis,
}
"""What makes the broker of a URL, by the URL's scheme."""


def open_broker(url: str | None, clock: Clock) -> Broker:
    """Return the broker that a URL names; nothing is connected yet.

    Args:
        url: `None`: what the environment variable `HUBBUB_BROKER` says, or `memory:`.
        clock: For brokers that keep their own time.

    Raises:
        ConfigError: The scheme is unknown, the URL is not one of its, or it needs an extra that
            is not installed.
    """
    if url is None:
        url = os.environ.get(BROKER_VARIABLE) or DEFAULT_BROKER
    scheme, colon, _ = url.partition(":")
    make = SCHEMES.get(scheme) if colon else None
    if make is None:
        known = ", ".join(f"{name}:" for name in SCHEMES)
        # Not the URL: it may have a password.
        raise ConfigError("broker", f"scheme {scheme!r} of the URL is none of {known}")
    return make(url, clock)


def check_reach(broker: Broker) -> None:
    """See that a broker reaches all workers, if this process is one of several.

    Raises:
        ConfigError: It is alone: what is published here would reach the clients of this worker,
            which are some of them, and nobody would notice before production.
    """
    _, _, workers = os.environ.get(WORKER_VARIABLE, "").partition("/")
    if broker.alone and workers not in {"", "1"}:
        name = type(broker).__name__
        raise ConfigError(
            f"--workers {workers}",
            f"the hub's broker ({name}) is for one process, and would reach the clients of one "
            "worker only: give --broker redis://..., or make the hub without a broker and "
            "pip install 'hubbub[workers]' for an embedded one, or give --workers 1",
        )
