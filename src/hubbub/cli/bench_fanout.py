"""`hubbub bench fanout URL`: how fast, and how faithfully, a server delivers publications."""

import json
import sys
from enum import StrEnum
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from hubbub.cli.address import ServerAddress
from hubbub.cli.dialing import tls_context
from hubbub.cli.escape import escape
from hubbub.cli.failure import FAILED, USAGE, Failure
from hubbub.cli.fanout_client import MIN_SIZE, ClientCodec
from hubbub.cli.fanout_load import FanoutLoad, FanoutResult
from hubbub.cli.limits import number_from, whole_number_from
from hubbub.cli.options import InsecureOption, UrlArgument
from hubbub.cli.progress import run_with_progress
from hubbub.protocol import json as json_codec

__all__ = ["fanout"]

MAX_SUBSCRIBERS: Final = 10_000
"""Most `--subscribers`: of one client address, and below its range of ephemeral ports."""

MAX_PUBLISHERS: Final = 1000
"""Most `--publishers`."""

MIN_RATE: Final = 0.1
MAX_RATE: Final = 100_000
"""Limits of `--rate`."""

MAX_SIZE: Final = 2**20
"""Largest `--size` in bytes. Servers may take less: 64 KiB for a whole command by default."""

MIN_SECONDS: Final = 0.1
MAX_SECONDS: Final = 600
"""Limits of `--seconds`."""

_PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99_9": 99.9, "max": 100.0}

# Of a core: from there on the load measures itself.
_SATURATED: Final = 0.95


class WireFormat(StrEnum):
    """What `--format` may be."""

    JSON = "json"
    PROTOBUF = "protobuf"


def fanout(
    url: UrlArgument,
    channel: Annotated[
        str, typer.Option(help="Channel that clients may subscribe and publish to.")
    ] = "bench:fanout",
    subscribers: Annotated[
        int,
        typer.Option(
            parser=whole_number_from(1, MAX_SUBSCRIBERS),
            metavar="<int>",
            help=f"Connections that subscribe, up to {MAX_SUBSCRIBERS}.",
        ),
    ] = 100,
    publishers: Annotated[
        int,
        typer.Option(
            parser=whole_number_from(1, MAX_PUBLISHERS),
            metavar="<int>",
            help=f"Connections that publish, up to {MAX_PUBLISHERS}.",
        ),
    ] = 1,
    rate: Annotated[
        float,
        typer.Option(
            parser=number_from(MIN_RATE, MAX_RATE),
            metavar="<float>",
            help="Publications per second, of all publishers together.",
        ),
    ] = 100.0,
    size: Annotated[
        int,
        typer.Option(
            parser=whole_number_from(MIN_SIZE, MAX_SIZE),
            metavar="<int>",
            help=f"Bytes per payload, from {MIN_SIZE} to {MAX_SIZE}.",
        ),
    ] = 128,
    seconds: Annotated[
        float,
        typer.Option(
            parser=number_from(MIN_SECONDS, MAX_SECONDS),
            metavar="<float>",
            help=f"How long to publish, from {MIN_SECONDS} to {MAX_SECONDS}.",
        ),
    ] = 5.0,
    wire_format: Annotated[
        WireFormat, typer.Option("--format", case_sensitive=False, help="Wire format.")
    ] = WireFormat.JSON,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    insecure: InsecureOption = False,
    token: Annotated[str, typer.Option(help="Connection token (JWT), if one is needed.")] = "",
) -> None:
    """Load a hub: publish at a rate, and see that each subscriber gets everything, once, in order.

    Works with every server of the Centrifuge client protocol. The exit code is 1 if a publication
    was lost, came twice or out of order, was refused, or if the server ended a connection.
    """
    address = ServerAddress.parse(url)
    load = FanoutLoad(
        address,
        tls_context(address, insecure=insecure),
        _codec(wire_format),
        channel,
        subscribers,
        publishers,
        rate,
        size,
        seconds,
        token,
    )
    result = run_with_progress(load.run, load.seconds, "deliveries")
    if as_json:
        print(json.dumps(_report(load, result)))
    else:
        console = Console(file=sys.stdout, highlight=False)
        console.print(escape(_headline(load)), soft_wrap=True, markup=False)
        console.print(_table(result))
        for remark in _remarks(load, result):
            console.print(remark, soft_wrap=True, markup=False)
    if not result.is_faultless:
        raise typer.Exit(FAILED)


def _codec(wire_format: WireFormat) -> ClientCodec:
    if wire_format is WireFormat.JSON:
        return json_codec
    try:
        from hubbub.protocol import protobuf
    except ImportError as exc:
        raise Failure(f"--format protobuf: {exc}", USAGE) from exc
    return protobuf


def _report(load: FanoutLoad, result: FanoutResult) -> dict[str, Any]:
    latencies = {
        f"latency_{name}_milliseconds": result.latencies.percentile_ms(percent)
        if result.latencies
        else None
        for name, percent in _PERCENTILES.items()
    }
    return {
        "url": str(load.address),
        "channel": load.channel,
        "format": _format(load),
        "subscribers": load.subscribers,
        "publishers": load.publishers,
        "rate": load.rate,
        "size_bytes": load.size,
        "duration_seconds": round(result.duration, 3),
        "published": result.published,
        "published_per_second": round(result.published / result.publishing, 1),
        "deliveries": result.deliveries,
        "deliveries_per_second": round(result.deliveries / result.duration, 1),
        **latencies,
        "lost": result.lost,
        "duplicates": result.duplicates,
        "reordered": result.reordered,
        "errors": dict(result.errors),
        "ended": dict(result.endings),
        "load_use": round(result.load_use, 3),
    }


def _headline(load: FanoutLoad) -> str:
    publishers = "1 publisher" if load.publishers == 1 else f"{load.publishers} publishers"
    subscribers = "1 subscriber" if load.subscribers == 1 else f"{load.subscribers} subscribers"
    return (
        f"fan-out in {load.channel}: {publishers}, {subscribers}, {load.rate:g} publications/s,"
        f" {load.size} bytes, {_format(load)}, {load.seconds:g} s"
    )


def _table(result: FanoutResult) -> Table:
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("published", f"{result.published:,}")
    table.add_row("published/s", f"{result.published / result.publishing:,.0f}")
    table.add_row("deliveries", f"{result.deliveries:,}")
    table.add_row("deliveries/s", f"{result.deliveries / result.duration:,.0f}", style="bold")
    table.add_section()
    for name, percent in _PERCENTILES.items() if result.latencies else ():
        label = f"latency {name.replace('_', '.')}"
        table.add_row(label, f"{result.latencies.percentile_ms(percent):.3f} ms")
    table.add_section()
    faults = {
        "lost": result.lost,
        "duplicates": result.duplicates,
        "reordered": result.reordered,
        "errors": result.errors.total(),
        "ended by the server": result.endings.total(),
    }
    for name, count in faults.items():
        table.add_row(name, f"{count:,}", style="bold red" if count else "")
    return table


def _remarks(load: FanoutLoad, result: FanoutResult) -> list[str]:
    remarks = [
        f"publish refused {count:,} times: {escape(error)}"
        for error, count in result.errors.most_common(5)
    ]
    remarks += [
        f"{load.address.location} {escape(ending)}, {count:,} times"
        for ending, count in result.endings.most_common(5)
    ]
    if result.published < 0.99 * load.rate * result.publishing:
        remarks.append("published less than asked for: the server, or this machine, was too slow")
    if result.load_use >= _SATURATED:
        remarks.append("this command used a whole core: its figures are its own, not the server's")
    return remarks


def _format(load: FanoutLoad) -> str:
    return WireFormat.PROTOBUF if load.codec.BINARY else WireFormat.JSON
