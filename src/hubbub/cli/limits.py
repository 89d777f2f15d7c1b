"""Numbers on the command line, with limits that an error names together with the value."""

import math
from collections.abc import Callable

import typer

__all__ = ["number_from", "whole_number_from"]


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
