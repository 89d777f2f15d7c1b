"""Connections to servers, and where they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Connection as TcpConnection
from redis.asyncio import Sentinel, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from hubbub.brokers.redis.address import Address, join_host
from hubbub.brokers.redis.wire import LinkLost

__all__ = ["Host", "connection", "find_master"]

Host = tuple[str, int] | None
"""A server's name and port; `None`: the address is a path."""

CLIENT_NAME = "hubbub"


@asynccontextmanager
async def connection(address: Address, host: Host) -> AsyncGenerator[AbstractConnection]:
    """Connect to a server, and disconnect.

    Raises:
        LinkLost: On entering: there is no connection.
    """
    opened = _make(address, host)
    name = address.path if host is None else join_host(host)
    try:
        try:
            async with asyncio.timeout(address.connect_timeout):
                await opened.connect()  # type: ignore[no-untyped-call]  # redis-py has no types there
        except TimeoutError:
            problem = f"{name} did not answer within connect_timeout={address.connect_timeout:g} s"
            raise LinkLost(problem) from None
        except (RedisError, OSError) as exc:
            raise LinkLost(f"{name}: {exc}") from None
        yield opened
    finally:
        await opened.disconnect(nowait=True)


async def find_master(address: Address) -> Host:
    """Ask Sentinels where the master is.

    Raises:
        LinkLost: None of them knows.
    """
    options = _tls(address) | {
        "username": address.sentinel_username or None,
        "password": address.sentinel_password or None,
        "socket_timeout": address.connect_timeout,
        "socket_connect_timeout": address.connect_timeout,
        "retry": Retry(NoBackoff(), 0),
        "ssl": address.tls,
    }
    # One that is down may take its whole timeout.
    limit = (len(address.hosts) + 1) * address.connect_timeout
    try:
        async with (
            asyncio.timeout(limit),
            Sentinel(  # type: ignore[no-untyped-call]  # as above
                list(address.hosts), sentinel_kwargs=options
            ) as sentinel,
        ):
            host, port = await sentinel.discover_master(address.service)
    except (RedisError, OSError, TimeoutError) as exc:
        raise LinkLost(f"no Sentinel knows the master: {exc}") from None
    return str(host), int(port)


def _make(address: Address, host: Host) -> AbstractConnection:
    options: dict[str, Any] = {
        "db": address.db,
        "username": address.username or None,
        "password": address.password or None,
        "client_name": CLIENT_NAME,
        # Time is kept by the link: a connection is read by one task and written by another.
        "socket_timeout": None,
        "socket_connect_timeout": address.connect_timeout,
        "protocol": 2,
    }
    if host is None:
        return UnixDomainSocketConnection(path=address.path, **options)
    options |= {"host": host[0], "port": host[1]}
    if address.tls:
        return SSLConnection(**options, **_tls(address))
    return TcpConnection(**options)


def _tls(address: Address) -> dict[str, Any]:
    if not address.tls:
        return {}
    return {
        "ssl_ca_certs": address.ca,
        "ssl_certfile": address.cert,
        "ssl_keyfile": address.key,
    }
