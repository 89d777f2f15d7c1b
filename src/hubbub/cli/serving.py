"""Serving an application until asked to stop: what `hello`, `run` and `dev` have in common."""

import asyncio
import errno
import logging
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

from starlette.types import ASGIApp

from hubbub import Server, serve, unix_serve
from hubbub.cli.failure import Failure
from hubbub.cli.listening import ListenAddress, Listener, TcpAddress, bind_failure, listen
from hubbub.cli.loader import Application
from hubbub.cli.loops import run_async, thread_safe
from hubbub.cli.signals import on_stop_signals
from hubbub.cli.supervision import watch_supervisor
from hubbub.errors import BrokerError

__all__ = ["SHUTDOWN_TIMEOUT", "serve_application", "server_tls"]

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
    shutdown_timeout: float = SHUTDOWN_TIMEOUT,
) -> None:
    """Serve until SIGINT or SIGTERM; clients are then closed with 1001 (going away).

    A second signal ends the process at once.

    Args:
        application: A handler or a mapping of paths to handlers.
        address: Where to listen.
        tls: Certificate and key; `None`: no TLS.
        announce: Called when connections are accepted.
        http: ASGI app for requests that are no upgrade; `None`: a page to try the server with.
        shutdown_timeout: Longest time in seconds that handlers get to end; then they are cancelled.

    Raises:
        Failure: Nobody can listen there, or a hub cannot use its broker.
    """
    for attempt in range(_ATTEMPTS):
        with listen(address) as listener:
            try:
                run_async(_serve(application, listener, tls, announce, http, shutdown_timeout))
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
    application: Application,
    listener: Listener,
    tls: ssl.SSLContext | None,
    announce: Callable[[Listener], None],
    http: ASGIApp | None,
    shutdown_timeout: float,
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    on_stop_signals(thread_safe(stop.set), listener.release)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(_server(application, listener, tls, http))
        stack.enter_context(watch_supervisor(stop.set))
        announce(listener)
        await stop.wait()
        logger.info("stopping; Ctrl+C again ends at once")
        # Leaving the server closes all connections and waits for their handlers.
        limit = loop.call_later(shutdown_timeout, _cancel_handlers, server, shutdown_timeout)
    limit.cancel()
    logger.info("stopped")


def _cancel_handlers(server: Server, shutdown_timeout: float) -> None:
    logger.warning("handlers still ran after %s s and were cancelled", shutdown_timeout)
    for task in server.handler_tasks:
        task.cancel()


def _server(
    application: Application, listener: Listener, tls: ssl.SSLContext | None, http: ASGIApp | None
) -> Server:
    if listener.unix:
        return unix_serve(application, ssl=tls, http=http, **listener.keywords)
    return serve(application, ssl=tls, http=http, **listener.keywords)
