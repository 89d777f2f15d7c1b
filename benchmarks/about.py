"""What was measured where: machine, versions, command, date. Every result carries it."""

import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.process import ROOT, Cores
from benchmarks.side import FoundSide

__all__ = ["About", "describe", "machine", "revision"]


@dataclass(frozen=True, slots=True)
class About:
    """versions: title of a side → what it is. skipped, failed: title → why it has no figure."""

    date: str
    command: str
    machine: str
    pinning: str
    hubbub: str
    versions: Mapping[str, str]
    skipped: Mapping[str, str]
    failed: Mapping[str, str]


def describe(
    sides: Sequence[FoundSide],
    cores: Cores,
    arguments: Sequence[str],
    skipped: Mapping[str, str],
    failed: Mapping[str, str],
) -> About:
    return About(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=f"make bench ARGS={shlex.quote(shlex.join(arguments))}"
        if arguments
        else "make bench",
        machine=machine(),
        pinning=(
            f"servers on core {cores.server}, load on core {cores.load}"
            if cores.server != cores.load
            else "one core for server and load: the figures per second say nothing"
        ),
        hubbub=revision(),
        versions={found.side.title: found.version for found in sides if not found.side.reference},
        skipped=skipped,
        failed=failed,
    )


def machine() -> str:
    """Say what we run on."""
    return f"{_processor()}, {os.cpu_count()} cores, Linux {platform.release()}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def revision() -> str:
    """Say which commit is checked out."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown revision"
    return f"commit {done.stdout.strip()}" if done.returncode == 0 else "before the first commit"
