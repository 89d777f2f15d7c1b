"""Numbers on the command line, with limits that an error names together with the value."""

import math
import os
from collections.abc import Callable

import typer

__all__ = ["number_from", "number_of_workers", "whole_number_from"]

MAX_WORKERS = 512


def whole_number_from(least: int, most: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `least` to `most`, both included."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise typer.BadParameter(f"'{text}' is not a whole number") from None
        if not least <= value <= most:
            raise typer.BadParameter(f"{value} is not from {least} to {most}")
        return value

    return parse


def number_from(least: float, most: float) -> Callable[[str], float]:
    """Return a parser of numbers from `least` to `most`, both included."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise typer.BadParameter(f"'{text}' is not a number") from None
        if math.isnan(value) or not least <= value <= most:
            raise typer.BadParameter(f"{value:g} is not from {least:g} to {most:g}")
        return value

    return parse


def number_of_workers(text: str) -> int:
    """Parse a number of processes; `auto` is the number of cores that this one may use."""
    if text == "auto":
        if hasattr(os, "sched_getaffinity"):
            return min(MAX_WORKERS, len(os.sched_getaffinity(0)))
        return min(MAX_WORKERS, os.cpu_count() or 1)
    try:
        return whole_number_from(1, MAX_WORKERS)(text)
    except typer.BadParameter as exc:
        raise typer.BadParameter(f"{exc.message}, and not 'auto'") from None
