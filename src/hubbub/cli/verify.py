"""`hubbub verify URL…`: whether a deployment delivers what it acknowledged, whatever happens."""

import asyncio
import json
import sys
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from hubbub.cli.chaos import COMMAND_TIMEOUT, commands_in_turn
from hubbub.cli.failure import FAILED
from hubbub.cli.headers import HeaderOption, parse_header
from hubbub.cli.limits import number_from, whole_number_from
from hubbub.cli.loops import run_async, thread_safe
from hubbub.cli.options import InsecureOption
from hubbub.cli.screen import Screen
from hubbub.cli.signals import on_stop_signals
from hubbub.cli.traffic import plural
from hubbub.cli.verify_client import MIN_SIZE
from hubbub.cli.verify_report import Report, counts, remarks, serialize
from hubbub.cli.verify_run import Options, Progress, verify

__all__ = ["verify_command"]

MAX_CLIENTS: Final = 10_000
"""Most `--clients`: of one client address, and below its range of ephemeral ports."""

MAX_CHANNELS: Final = 10_000
"""Most `--channels`."""

MAX_SUBSCRIPTIONS: Final = 128
"""Most `--subscriptions`: what a hub allows a client by default."""

MAX_PUBLISHERS: Final = 1000
"""Most `--publishers`."""

MIN_MINUTES: Final = 0.01
MAX_MINUTES: Final = 10_080
"""Limits of `--minutes`; the second is a week."""

MIN_RATE: Final = 0.1
MAX_RATE: Final = 100_000
"""Limits of `--rate`."""

MAX_SIZE: Final = 2**20
"""Largest `--size` in bytes. Servers may take less: 64 KiB for a whole command by default."""

MAX_KILL_RATE: Final = 1000
"""Most `--kill-rate`."""

MIN_CHAOS_INTERVAL: Final = 0.1
MAX_CHAOS_INTERVAL: Final = 86_400
"""Limits of `--chaos-interval` in seconds."""

MAX_BOUND: Final = 3600
"""Longest of the bounds in seconds."""

_DEFAULTS: Final = Options()

# Between two lines of progress where there is no terminal to draw one in.
_LINE_INTERVAL: Final = 30.0


def _whole(least: int, most: int, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        parser=whole_number_from(least, most), metavar="<int>", help=text
    )
    return option


def _number(least: float, most: float, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        parser=number_from(least, most), metavar="<float>", help=text
    )
    return option


def verify_command(
    urls: Annotated[
        list[str],
        typer.Argument(metavar="URL", help="Addresses of nodes: clients go from one to the next."),
    ],
    clients: Annotated[
        int, _whole(1, MAX_CLIENTS, f"Connections that subscribe, up to {MAX_CLIENTS}.")
    ] = _DEFAULTS.clients,
    minutes: Annotated[
        float, _number(MIN_MINUTES, MAX_MINUTES, "How long to publish.")
    ] = _DEFAULTS.seconds / 60,
    channel: Annotated[
        str, typer.Option(help="Names of the channels, with {n} for a number from 0.")
    ] = _DEFAULTS.channel,
    channels: Annotated[
        int, _whole(1, MAX_CHANNELS, f"How many channels, up to {MAX_CHANNELS}.")
    ] = _DEFAULTS.channels,
    subscriptions: Annotated[
        int, _whole(1, MAX_SUBSCRIPTIONS, f"Channels per client, up to {MAX_SUBSCRIPTIONS}.")
    ] = _DEFAULTS.subscriptions,
    publishers: Annotated[
        int, _whole(1, MAX_PUBLISHERS, f"Connections that publish, up to {MAX_PUBLISHERS}.")
    ] = _DEFAULTS.publishers,
    rate: Annotated[
        float, _number(MIN_RATE, MAX_RATE, "Publications per second, of all publishers together.")
    ] = _DEFAULTS.rate,
    size: Annotated[
        int, _whole(MIN_SIZE, MAX_SIZE, f"Bytes per payload, from {MIN_SIZE} to {MAX_SIZE}.")
    ] = _DEFAULTS.size,
    kill_rate: Annotated[
        float, _number(0, MAX_KILL_RATE, "Connections of its own that it cuts per second.")
    ] = _DEFAULTS.kill_rate,
    chaos: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COMMAND",
            help="Shell command that breaks something; of several, one after the other. It has"
            f" {COMMAND_TIMEOUT:g} seconds, and ends with code 0.",
        ),
    ] = None,
    chaos_interval: Annotated[
        float,
        _number(MIN_CHAOS_INTERVAL, MAX_CHAOS_INTERVAL, "Seconds between two --chaos commands."),
    ] = 30.0,
    settle_bound: Annotated[
        float, _number(0, MAX_BOUND, "Seconds in which all clients have to be back in the end.")
    ] = _DEFAULTS.settle_bound,
    canary_bound: Annotated[
        float, _number(0, MAX_BOUND, "Seconds in which all have to hear a last publication.")
    ] = _DEFAULTS.canary_bound,
    presence_bound: Annotated[
        float, _number(0, MAX_BOUND, "Seconds in which presence has to be right in the end.")
    ] = _DEFAULTS.presence_bound,
    strict: Annotated[
        bool, typer.Option("--strict", help="Being told `recovered: false` is a fault.")
    ] = False,
    seed: Annotated[int | None, _whole(0, 2**63 - 1, "Repeats the choices of another run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    token: Annotated[
        str,
        typer.Option(
            envvar="HUBBUB_TOKEN",
            show_default=False,
            help="Connection token (JWT) that outlives the run. Better in the environment: others"
            " on this machine can read command lines.",
        ),
    ] = "",
    header: HeaderOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Verify a hub: publish, cut connections, and see that nothing acknowledged is lost.

    Every subscriber has to get every publication once and in order, or be told that it missed
    some; presence has to be right in the end, and nobody deaf. Else the exit code is 1.

    Ctrl+C ends the publishing early, and the report still comes.
    """
    options = Options(
        clients=clients,
        channels=channels,
        channel=channel,
        subscriptions=subscriptions,
        publishers=publishers,
        rate=rate,
        size=size,
        seconds=minutes * 60,
        kill_rate=kill_rate,
        token=token,
        headers=[parse_header(text) for text in header or []],
        insecure=insecure,
        settle_bound=settle_bound,
        canary_bound=canary_bound,
        presence_bound=presence_bound,
        strict=strict,
        seed=seed,
    )
    actions = commands_in_turn(chaos or [], chaos_interval, options.seconds)

    async def run() -> Report:
        stop = asyncio.Event()
        on_stop_signals(thread_safe(stop.set))
        live = _Live(options)
        try:
            return await verify(urls, options, actions=actions, on_progress=live.show, stop=stop)
        finally:
            live.end()

    report = run_async(run())
    if as_json:
        print(json.dumps(serialize(report)))
    else:
        _print(options, report)
    if not report.is_good:
        raise typer.Exit(FAILED)


class _Live:
    """Progress on standard error: a line that changes, or one every now and then."""

    def __init__(self, options: Options) -> None:
        self._seconds = options.seconds
        self._screen = Screen(lambda: None)
        self._phase = ""
        self._told_at = 0.0

    def show(self, progress: Progress) -> None:
        """Show where the run is."""
        if self._screen.has_status:
            self._screen.show_status([self._line(progress)])
        elif progress.phase != self._phase or progress.elapsed - self._told_at >= _LINE_INTERVAL:
            self._told_at = progress.elapsed
            self._screen.notice(self._line(progress))
        self._phase = progress.phase

    def end(self) -> None:
        """Leave nothing behind in a terminal."""
        if self._screen.has_status:
            self._screen.show_status([])

    def _line(self, progress: Progress) -> str:
        of = f"/{self._seconds:.0f}" if progress.phase == "load" else ""
        return (
            f"{progress.phase} {progress.elapsed:.0f}{of} s,"
            f" {progress.settled:,}/{progress.clients:,} clients,"
            f" {progress.acknowledged:,}/{progress.sent:,} acknowledged,"
            f" {plural(progress.deliveries, 'delivery', 'deliveries')},"
            f" {progress.told_so:,} told so, {plural(progress.faults, 'fault')}"
        )


def _print(options: Options, report: Report) -> None:
    console = Console(file=sys.stdout, highlight=False)
    console.print(
        f"{plural(options.clients, 'client')} in {plural(options.channels, 'channel')},"
        f" {options.rate:g} publications/s, {options.kill_rate:g} cuts/s,"
        f" {report.publishing:.1f} s, seed {report.seed}",
        soft_wrap=True,
        markup=False,
    )
    console.print(counts(report))
    for line in remarks(report):
        console.print(line, soft_wrap=True, markup=False)
    if report.is_good:
        console.print(Text.assemble("verdict: ", ("good", "bold green")))
    else:
        console.print(Text.assemble("verdict: ", ("bad", "bold red")))
