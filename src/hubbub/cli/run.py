"""`hubbub run module:attribute`: serve an application; `hubbub dev` is the same with reload."""

from dataclasses import dataclass
from typing import Annotated, assert_never

import typer

from hubbub.cli.banner import print_banner
from hubbub.cli.failure import USAGE, Failure
from hubbub.cli.listening import (
    AssignedSockets,
    InheritedSocket,
    ListenAddress,
    Listener,
    TcpAddress,
    UnixAddress,
    fixed_port,
)
from hubbub.cli.loader import Target, load, load_http
from hubbub.cli.logs import LogFormat, LogLevel, configure_logs
from hubbub.cli.options import (
    DEFAULT_DRAIN,
    DEFAULT_HOST,
    DEFAULT_PORT,
    BrokerOption,
    CertfileOption,
    DrainOption,
    FdOption,
    HealthOption,
    HostOption,
    KeyfileOption,
    LogFormatOption,
    LogLevelOption,
    PortOption,
    ReloadOption,
    TrustedProxyOption,
    UdsOption,
    WorkersOption,
    listen_address,
)
from hubbub.cli.reloading import serve_and_reload
from hubbub.cli.serving import serve_application, server_tls
from hubbub.cli.supervising import serve_in_workers, use_broker
from hubbub.workers.assignment import Assignment

__all__ = ["run"]


def run(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:ATTRIBUTE",
            help="A handler, or a mapping of paths to handlers: app:handler, shop.chat:routes.",
        ),
    ],
    http: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:ATTRIBUTE",
            help="ASGI app for plain HTTP requests on the same port: app:http.",
        ),
    ] = None,
    host: HostOption = DEFAULT_HOST,
    port: PortOption = DEFAULT_PORT,
    uds: UdsOption = None,
    fd: FdOption = None,
    ssl_certfile: CertfileOption = None,
    ssl_keyfile: KeyfileOption = None,
    health: HealthOption = None,
    trusted_proxy: TrustedProxyOption = [],  # noqa: B006 - Typer copies it
    reload: ReloadOption = False,
    broker: BrokerOption = None,
    workers: WorkersOption = 1,
    drain: DrainOption = DEFAULT_DRAIN,
    log_level: LogLevelOption = LogLevel.INFO,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Serve your application; the working directory is importable."""
    if ssl_keyfile is not None and ssl_certfile is None:
        raise Failure("--ssl-keyfile needs --ssl-certfile", USAGE)
    if reload and workers > 1:
        raise Failure(
            f"--reload and --workers {workers} contradict each other: develop with one", USAGE
        )
    service = _Service(
        Target.parse(target),
        None if http is None else Target.parse(http),
        listen_address(context, host, port, uds, fd),
        ssl_certfile,
        ssl_keyfile,
        health,
        tuple(trusted_proxy),
        drain,
        log_level,
        log_format,
    )
    assignment = Assignment.take()
    configure_logs(log_level, log_format, worker=None if assignment is None else assignment.number)
    if assignment is None:  # a worker's was checked, and is in its environment
        use_broker(broker)
    if assignment is not None:
        service.work(assignment)
    elif reload:
        service.reload()
    elif workers > 1:
        service.supervise(workers)
    else:
        service.serve(service.address)


@dataclass(frozen=True, slots=True)
class _Service:
    """What the options say, after they were found to agree."""

    target: Target
    http: Target | None
    address: ListenAddress
    certfile: str | None
    keyfile: str | None
    health: bool | None
    trusted_proxies: tuple[str, ...]
    drain: float
    log_level: LogLevel
    log_format: LogFormat

    def serve(self, address: ListenAddress, *, announce: bool = True) -> None:
        tls = server_tls(self.certfile, self.keyfile)
        application = load(self.target)
        http = None if self.http is None else load_http(self.http)
        serve_application(
            application,
            address,
            tls,
            self._announce if announce else lambda listener: None,
            http=http,
            health=self.health,
            trusted_proxies=self.trusted_proxies,
            drain=self.drain,
        )

    def work(self, assignment: Assignment) -> None:
        self.serve(AssignedSockets(assignment.fds), announce=False)

    def supervise(self, workers: int) -> None:
        arguments = ["run", *self._arguments(self.address), f"--drain={self.drain}"]
        serve_in_workers(arguments, workers, self.address, self.drain, self._announce)

    def reload(self) -> None:
        address = self.address
        if isinstance(address, TcpAddress):
            # Port 0 must stay the same port over restarts, and a port that is taken will not
            # become free by a change of a file.
            address = fixed_port(address)
        keep_fds = [address.fd] if isinstance(address, InheritedSocket) else []
        # Somebody has just saved a file and is waiting.
        arguments = ["run", *self._arguments(address), "--drain=0"]
        serve_and_reload(arguments, keep_fds)

    def _arguments(self, address: ListenAddress) -> list[str]:
        arguments = [f"{self.target}", "--no-reload", "--workers=1", *_address_arguments(address)]
        if self.http is not None:
            arguments.append(f"--http={self.http}")
        if self.certfile is not None:
            arguments.append(f"--ssl-certfile={self.certfile}")
        if self.keyfile is not None:
            arguments.append(f"--ssl-keyfile={self.keyfile}")
        if self.health is not None:
            arguments.append("--health" if self.health else "--no-health")
        arguments += [f"--trusted-proxy={proxy}" for proxy in self.trusted_proxies]
        return [*arguments, f"--log-level={self.log_level}", f"--log-format={self.log_format}"]

    def _announce(self, listener: Listener) -> None:
        # Collectors of JSON logs want nothing else in the stream; the server logs where it listens.
        if self.log_format is LogFormat.TEXT:
            print_banner(listener, f"serves {self.target}", secure=self.certfile is not None)


def _address_arguments(address: ListenAddress) -> list[str]:
    match address:
        case TcpAddress(host, port):
            return [f"--host={host}", f"--port={port}"]
        case UnixAddress(path):
            return [f"--uds={path}"]
        case InheritedSocket(fd):
            return [f"--fd={fd}"]
        case AssignedSockets():
            raise AssertionError  # unreachable: a worker has no children
        case _:
            assert_never(address)
