"""The `hubbub` command: its subcommands, and how errors look."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from hubbub import __version__
from hubbub.cli import bench, connect, demo, hello, run, tap, token, verify
from hubbub.cli.escape import escape
from hubbub.cli.failure import FAILED, Failure
from hubbub.errors import HubbubError

__all__ = ["main"]

# As a shell shows a process that died of SIGINT.
_INTERRUPTED = 130

_app = typer.Typer(
    name="hubbub",
    add_completion=False,
    pretty_exceptions_enable=False,  # a bug deserves Python's own traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)
_app.command("demo")(demo.demo)
_app.command("hello")(hello.hello)
_app.command("run")(run.run)
_app.command(
    "dev",
    help="Serve your application and restart when its files change: run with --reload.",
    context_settings={"default_map": {"reload": True}},
)(run.run)
_app.command("connect")(connect.connect)
_app.command("tap")(tap.tap)
_app.command("verify")(verify.verify_command)
_app.add_typer(bench.app, name="bench")
_app.add_typer(token.app, name="token")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the `hubbub` command and end the process with its exit code.

    Whatever an operator can put right is one line on standard error; a traceback is a bug.

    Args:
        arguments: What follows `hubbub` on the command line; `None`: of this process.
    """
    try:
        exit_code = _app(arguments, prog_name="hubbub", standalone_mode=False)
    except typer.TyperException as exc:
        exit_code = _report(exc.format_message(), exc.exit_code)
    except Failure as exc:
        exit_code = _report(str(exc), exc.exit_code)
    except HubbubError as exc:
        exit_code = _report(str(exc), FAILED)
    except (KeyboardInterrupt, typer.Abort):
        exit_code = _INTERRUPTED
    sys.exit(exit_code)


@_app.callback(invoke_without_command=True)
def _hubbub(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """The real-time server for Python."""
    if version:
        print(f"hubbub {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit


def _report(message: str, exit_code: int) -> int:
    # Messages quote what others wrote: module names, answers of servers, exceptions.
    text = Text.assemble(("error: ", "bold red"), escape(" ".join(message.split())))
    Console(stderr=True, highlight=False).print(text, soft_wrap=True)
    return exit_code
