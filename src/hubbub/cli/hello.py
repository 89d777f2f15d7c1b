"""`hubbub hello`: the server of the tutorial."""

from hubbub import ServerConnection
from hubbub.cli.banner import print_banner
from hubbub.cli.listening import TcpAddress
from hubbub.cli.logs import LogFormat, LogLevel, configure_logs
from hubbub.cli.options import DEFAULT_HOST, DEFAULT_PORT, HostOption, PortOption
from hubbub.cli.serving import serve_application

__all__ = ["hello", "say_hello"]


def hello(host: HostOption = DEFAULT_HOST, port: PortOption = DEFAULT_PORT) -> None:
    """Serve the tutorial: every client is sent "Hello World!"."""
    configure_logs(LogLevel.INFO, LogFormat.TEXT)
    serve_application(
        say_hello,
        TcpAddress(host, port),
        None,
        lambda listener: print_banner(listener, 'says "Hello World!"', secure=False),
    )


async def say_hello(websocket: ServerConnection) -> None:
    """Send the greeting, and end."""
    await websocket.send("Hello World!")
