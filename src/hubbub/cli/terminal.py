"""A conversation in a terminal: a prompt that keeps what is typed while messages arrive above it.

Imported only when it is needed: prompt_toolkit takes 0.18 s to import, as long as all the rest.
"""

import sys
from collections.abc import AsyncGenerator, Callable

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app_or_none
from prompt_toolkit.formatted_text import FormattedText
from rich.console import Console
from rich.text import Text

from hubbub.cli.escape import escape
from hubbub.cli.transcript import describe_message

__all__ = ["TerminalTranscript", "terminal_restorer", "typed_lines"]


async def typed_lines() -> AsyncGenerator[str]:
    """Read lines that a person types, until Ctrl+D or Ctrl+C."""
    session: PromptSession[str] = PromptSession(FormattedText([("ansigreen bold", "> ")]))
    # Raw between two prompts too: a key pressed there would be echoed, and a Ctrl+D lost.
    with session.app.input.raw_mode():
        while True:
            try:
                line = await session.prompt_async()
            except (EOFError, KeyboardInterrupt):
                return
            yield line


def terminal_restorer() -> Callable[[], None]:
    """Return a function that makes the terminal what it is now, for an end without cleanup."""
    if sys.platform == "win32":
        return lambda: None
    import termios  # does not exist on Windows

    fd = sys.stdin.fileno()
    attributes = termios.tcgetattr(fd)
    return lambda: termios.tcsetattr(fd, termios.TCSANOW, attributes)


class TerminalTranscript:
    """Messages and notices above the prompt, coloured by direction."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)

    async def message(self, message: str | bytes) -> None:
        """Show a message; what it contains is neither markup nor a command to the terminal."""
        style = "" if isinstance(message, str) else "magenta"
        self._print(Text.assemble(("< ", "bold cyan"), (describe_message(message), style)))

    async def notice(self, text: str) -> None:
        """Show a notice."""
        self._print(Text(f"* {escape(text)}", style="dim"))

    def _print(self, text: Text) -> None:
        with self._console.capture() as capture:
            self._console.print(text, soft_wrap=True)
        app = get_app_or_none()
        if app is None or not app.is_running:
            sys.stdout.write(capture.get())
            sys.stdout.flush()
            return
        # Not `run_in_terminal`, which leaves raw mode for each message: keys pressed in that
        # moment would be echoed by the terminal or get lost. The prompt is drawn again once per
        # turn of the event loop, however many messages that brought.
        app.renderer.erase()
        app.output.write_raw(capture.get())
        app.output.flush()
        app.invalidate()
