"""`hubbub bench`: how fast a server echoes; `fanout` is a module of its own."""

import json
import sys
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from hubbub.cli.address import ServerAddress
from hubbub.cli.bench_fanout import fanout
from hubbub.cli.dialing import tls_context
from hubbub.cli.limits import number_from, whole_number_from
from hubbub.cli.load import EchoLoad, EchoResult
from hubbub.cli.options import InsecureOption, UrlArgument
from hubbub.cli.progress import run_with_progress

__all__ = ["app"]

MAX_CONNECTIONS: Final = 10_000
"""Most `--connections`: of one client address, and below its range of ephemeral ports."""

MAX_SIZE: Final = 2**20
"""Largest `--size` in bytes: what servers take by default."""

MIN_SECONDS: Final = 0.1
MAX_SECONDS: Final = 600
"""Limits of `--seconds`."""

_PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99_9": 99.9, "max": 100.0}

app = typer.Typer(help="Measure a WebSocket server.")

app.command()(fanout)


@app.callback(invoke_without_command=True)
def _bench(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def echo(
    url: UrlArgument,
    connections: Annotated[
        int,
        typer.Option(
            parser=whole_number_from(1, MAX_CONNECTIONS),
            metavar="<int>",
            help=f"Connections at the same time, up to {MAX_CONNECTIONS}.",
        ),
    ] = 50,
    size: Annotated[
        int,
        typer.Option(
            parser=whole_number_from(1, MAX_SIZE),
            metavar="<int>",
            help=f"Bytes per message, up to {MAX_SIZE}.",
        ),
    ] = 64,
    seconds: Annotated[
        float,
        typer.Option(
            parser=number_from(MIN_SECONDS, MAX_SECONDS),
            metavar="<float>",
            help=f"How long to measure, from {MIN_SECONDS} to {MAX_SECONDS}.",
        ),
    ] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    insecure: InsecureOption = False,
) -> None:
    """Load an echo server: each connection sends a message, waits for its echo, sends again."""
    address = ServerAddress.parse(url)
    load = EchoLoad(address, tls_context(address, insecure=insecure), connections, size, seconds)
    result = run_with_progress(load.run, load.seconds, "messages")
    if as_json:
        print(json.dumps(_report(load, result)))
    else:
        console = Console(file=sys.stdout, highlight=False)
        console.print(
            f"echo with {connections} connections, {size} bytes, {result.duration:.1f} s",
            soft_wrap=True,
        )
        console.print(_table(result))


def _report(load: EchoLoad, result: EchoResult) -> dict[str, Any]:
    latencies = {
        f"latency_{name}_milliseconds": result.latencies.percentile_ms(percent)
        for name, percent in _PERCENTILES.items()
    }
    return {
        "url": str(load.address),
        "connections": load.connections,
        "size_bytes": load.size,
        "duration_seconds": round(result.duration, 3),
        "messages": result.messages,
        "messages_per_second": round(result.messages / result.duration, 1),
        **latencies,
    }


def _table(result: EchoResult) -> Table:
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("messages", f"{result.messages:,}")
    table.add_row("messages/s", f"{result.messages / result.duration:,.0f}", style="bold")
    table.add_section()
    for name, percent in _PERCENTILES.items():
        label = f"latency {name.replace('_', '.')}"
        table.add_row(label, f"{result.latencies.percentile_ms(percent):.3f} ms")
    return table
