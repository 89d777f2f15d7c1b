"""Serving an application until asked to stop: what `hello`, `run` and `dev` have in common."""

import asyncio
import errno
import functools
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from starlette.types import ASGIApp

from hubbub import Server, serve, unix_serve
from hubbub.cli.failure import Failure
from hubbub.cli.listening import (
    AssignedSockets,
    ListenAddress,
    Listener,
    TcpAddress,
    bind_failure,
    listen,
)
from hubbub.cli.loader import Application
from hubbub.cli.loops import run_async, thread_safe
from hubbub.cli.signals import ignore_hangup, on_stop_signals
from hubbub.errors import BrokerError
from hubbub.workers.supervision import watch_supervisor
from hubbub.workers.systemd import notify_ready, notify_stopping

__all__ = ["SHUTDOWN_TIMEOUT", "serve_application", "server_tls", "stop_limit"]

SHUTDOWN_TIMEOUT: Final = 10.0
"""Default of the longest time that handlers get to end after a request to stop, in seconds.

Docker kills ten seconds after SIGTERM, Kubernetes after thirty.
"""

# How often a port that was free a moment ago may be snatched away when any port will do.
_ATTEMPTS: Final = 5

_BIND_ERRORS: Final = {errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL}

logger = logging.getLogger("hubbub.cli")


def serve_application(
    application: Application,
    address: ListenAddress,
    tls: ssl.SSLContext | None,
    announce: Callable[[Listener], None],
    *,
    http: ASGIApp | None = None,
    health: bool | None = None,
    trusted_proxies: Sequence[str] = (),
    drain: float = 0.0,
    shutdown_timeout: float = SHUTDOWN_TIMEOUT,
) -> None:
    """Serve until SIGINT or SIGTERM, or until the supervisor is done with this process.

    Sessions of hubs are then ended little by little with 3001, and after that all other clients
    with 1001 (going away). A second signal ends the process at once.

    Args:
        application: A handler or a mapping of paths to handlers.
        address: Where to listen.
        tls: Certificate and key; `None`: no TLS.
        announce: Called when connections are accepted.
        http: ASGI app for requests that are no upgrade; `None`: a page to try the server with.
        health: As for `hubbub.serve`.
        trusted_proxies: As for `hubbub.serve`.
        drain: Seconds that the ends of sessions are spread over; 0: at once.
        shutdown_timeout: Seconds from the request to stop after which handlers are cancelled; more
            if draining takes more than half of them, see `stop_limit`.

    Raises:
        Failure: Nobody can listen there, or a hub cannot use its broker.
    """
    keywords: dict[str, Any] = {
        "ssl": tls,
        "http": http,
        "health": health,
        "trusted_proxies": trusted_proxies,
    }
    for attempt in range(_ATTEMPTS):
        with listen(address) as listener:
            try:
                run_async(
                    _serve(
                        _server(application, listener, keywords),
                        listener,
                        announce,
                        drain,
                        stop_limit(drain, shutdown_timeout),
                        worker=isinstance(address, AssignedSockets),
                    )
                )
            except BrokerError as exc:
                raise Failure(f"broker {exc}") from exc
            except OSError as exc:
                if not isinstance(address, TcpAddress) or exc.errno not in _BIND_ERRORS:
                    raise  # a bug: not for us to explain
                snatched = address.port == 0 and exc.errno == errno.EADDRINUSE
                if not snatched or attempt == _ATTEMPTS - 1:
                    raise bind_failure(exc, address.host, address.port) from exc
            else:
                return


def stop_limit(drain: float, shutdown_timeout: float = SHUTDOWN_TIMEOUT) -> float:
    """Return the seconds from a request to stop to the cancellation of handlers."""
    return max(shutdown_timeout, drain + shutdown_timeout / 2) if drain else shutdown_timeout


def server_tls(certfile: str | None, keyfile: str | None) -> ssl.SSLContext | None:
    """Read certificate and key; `None` without a certificate.

    Args:
        certfile: PEM file with the certificate and those of the authorities up to the root's.
        keyfile: PEM file with the private key; `None`: it is in `certfile`.

    Raises:
        Failure: A file cannot be read, or they do not fit together.
    """
    if certfile is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])  # RFC 6455 is an upgrade of HTTP/1.1
    for option, path in (("--ssl-certfile", certfile), ("--ssl-keyfile", keyfile)):
        if path is not None:
            _check_readable(option, path)
    encrypted = False

    def password() -> str:
        # Without this function OpenSSL would ask the terminal, and a service would hang.
        nonlocal encrypted
        encrypted = True
        return ""

    key = f"--ssl-keyfile '{keyfile}'" if keyfile else f"--ssl-certfile '{certfile}'"
    try:
        context.load_cert_chain(certfile, keyfile, password)
    except (ssl.SSLError, ValueError) as exc:
        if encrypted:
            raise Failure(f"the key in {key} is encrypted: decrypt it first") from exc
        reason = getattr(exc, "reason", None)
        if reason in {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"}:
            problem = f"the key in {key} is not the key of --ssl-certfile '{certfile}'"
        else:
            problem = f"no certificate and key in --ssl-certfile '{certfile}', {key}"
        raise Failure(problem) from exc
    return context


def _check_readable(option: str, path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as exc:
        raise Failure(f"{option}: cannot read '{path}': {exc.strerror}") from exc


async def _serve(
    make_server: Callable[[], Server],
    listener: Listener,
    announce: Callable[[Listener], None],
    drain: float,
    limit: float,
    *,
    worker: bool,
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    on_stop_signals(thread_safe(stop.set), listener.release)
    if worker:
        ignore_hangup()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(make_server())
        tie = stack.enter_context(watch_supervisor(stop.set))
        announce(listener)
        tie.report_ready()
        if not worker:
            notify_ready()
        await stop.wait()
        tie.report_stopping()
        if not worker:
            notify_stopping()
            logger.info("stopping; Ctrl+C again ends at once")
        timer = loop.call_later(limit, _cancel_handlers, server, limit)
        if drain:
            await server.drain(drain)
        # Leaving the server closes all connections and waits for their handlers.
    timer.cancel()
    logger.info("stopped")


def _cancel_handlers(server: Server, limit: float) -> None:
    logger.warning("handlers still ran after %s s and were cancelled", limit)
    for task in server.handler_tasks:
        task.cancel()


def _server(
    application: Application, listener: Listener, keywords: Mapping[str, Any]
) -> Callable[[], Server]:
    make = unix_serve if listener.unix else serve
    return functools.partial(make, application, **keywords, **listener.keywords)
