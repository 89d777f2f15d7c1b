"""The `hubbub` command."""

from hubbub.cli.app import main

__all__ = ["main"]
