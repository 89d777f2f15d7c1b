"""Options that several commands have in common, each with its environment variable and limits."""

from pathlib import Path
from typing import Annotated

import typer

from hubbub.brokers.opening import BROKER_VARIABLE
from hubbub.cli.failure import USAGE, Failure
from hubbub.cli.limits import number_from, number_of_workers, whole_number_from
from hubbub.cli.listening import InheritedSocket, ListenAddress, TcpAddress, UnixAddress
from hubbub.cli.logs import LogFormat, LogLevel
from hubbub.errors import ConfigError
from hubbub.server.proxies import TrustedProxies

__all__ = [
    "DEFAULT_DRAIN",
    "DEFAULT_HOST",
    "DEFAULT_PORT",
    "BrokerOption",
    "CertfileOption",
    "DrainOption",
    "FdOption",
    "HealthOption",
    "HostOption",
    "InsecureOption",
    "KeyfileOption",
    "LogFormatOption",
    "LogLevelOption",
    "PortOption",
    "ReloadOption",
    "TrustedProxyOption",
    "UdsOption",
    "UrlArgument",
    "WorkersOption",
    "listen_address",
]

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 8005

DEFAULT_DRAIN = 3.0
"""Seconds. With few clients it takes less, see `Hub.drain`."""


def _proxy(text: str) -> str:
    try:
        TrustedProxies([text])
    except ConfigError as exc:
        raise typer.BadParameter(exc.problem) from None
    return text


HostOption = Annotated[
    str,
    typer.Option(envvar="HUBBUB_HOST", help="Name or address to listen on; 0.0.0.0 or :: for all."),
]
PortOption = Annotated[
    int,
    typer.Option(
        envvar="HUBBUB_PORT",
        parser=whole_number_from(0, 65535),
        metavar="<int>",
        help="TCP port; 0 for any free one.",
    ),
]
UdsOption = Annotated[
    Path | None,
    typer.Option(envvar="HUBBUB_UDS", help="Unix socket to listen on, in place of a port."),
]
FdOption = Annotated[
    int | None,
    typer.Option(
        envvar="HUBBUB_FD",
        parser=whole_number_from(0, 2**31 - 1),
        metavar="<int>",
        help="Inherited listening socket, by descriptor.",
    ),
]
CertfileOption = Annotated[
    str | None,
    typer.Option(envvar="HUBBUB_SSL_CERTFILE", help="PEM file with the certificate chain."),
]
KeyfileOption = Annotated[
    str | None,
    typer.Option(envvar="HUBBUB_SSL_KEYFILE", help="PEM file with the private key."),
]
ReloadOption = Annotated[
    bool,
    typer.Option(
        "--reload/--no-reload",
        envvar="HUBBUB_RELOAD",
        show_default=False,  # run and dev differ in it
        help="Restart when a Python file in the working directory changes.",
    ),
]
HealthOption = Annotated[
    bool | None,
    typer.Option(
        "--health/--no-health",
        envvar="HUBBUB_HEALTH",
        show_default="where --http answers 404",
        help="Answer /healthz and /readyz before --http is asked, or not at all.",
    ),
]
LogLevelOption = Annotated[
    LogLevel,
    typer.Option(envvar="HUBBUB_LOG_LEVEL", case_sensitive=False, help="Least level to log."),
]
LogFormatOption = Annotated[
    LogFormat,
    typer.Option(
        envvar="HUBBUB_LOG_FORMAT", case_sensitive=False, help="Lines for people, or JSON objects."
    ),
]
TrustedProxyOption = Annotated[
    list[str],
    typer.Option(
        envvar="HUBBUB_TRUSTED_PROXIES",
        parser=_proxy,
        metavar="ADDRESS",
        show_default=False,
        help="Proxy that is believed who the client is: address, network, or unix; repeatable.",
    ),
]
BrokerOption = Annotated[
    str | None,
    typer.Option(
        envvar=BROKER_VARIABLE,
        metavar="URL",
        help="Broker of hubs that are made without one: redis://…, unix://…, memory:",
    ),
]
DrainOption = Annotated[
    float,
    typer.Option(
        envvar="HUBBUB_DRAIN",
        parser=number_from(0, 3600),
        metavar="SECONDS",
        help="When stopping, end the sessions of hubs over so many seconds; 0: at once.",
    ),
]
WorkersOption = Annotated[
    int,
    typer.Option(
        envvar="HUBBUB_WORKERS",
        parser=number_of_workers,
        metavar="<int>|auto",
        help="Processes that share the port; auto: one for each core.",
    ),
]
UrlArgument = Annotated[
    str,
    typer.Argument(
        metavar="URL", help="Address: localhost:8005, ws://…, wss://…, http://… or https://…"
    ),
]
InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Accept any TLS certificate, such as a self-signed one.")
]


def listen_address(
    context: typer.Context, host: str, port: int, uds: Path | None, fd: int | None
) -> ListenAddress:
    """Choose the one place to listen from the options for it.

    The command line goes before the environment: with `--uds` on the command line, `HUBBUB_PORT`
    does not count.

    Raises:
        Failure: Two options of the same standing contradict each other.
    """
    for source in ("COMMANDLINE", "ENVIRONMENT"):
        given = [name for name in ("host", "port", "uds", "fd") if _source(context, name) == source]
        chosen = {"tcp" if name in {"host", "port"} else name for name in given}
        if len(chosen) > 1:
            names = [_shown(name, source) for name in given]
            raise Failure(f"{' and '.join(names)} contradict each other: give one of them", USAGE)
        if chosen == {"uds"}:
            assert uds is not None
            return UnixAddress(uds)
        if chosen == {"fd"}:
            assert fd is not None
            return InheritedSocket(fd)
        if chosen == {"tcp"}:
            break
    return TcpAddress(host, port)


def _source(context: typer.Context, name: str) -> str:
    source = context.get_parameter_source(name)
    return source.name if source is not None else ""


def _shown(name: str, source: str) -> str:
    return f"--{name}" if source == "COMMANDLINE" else f"HUBBUB_{name.upper()}"
