"""Reaching a server from the command line: TLS settings, and errors a person can act on."""

import errno
import re
import socket
import ssl
from collections.abc import Generator
from contextlib import contextmanager
from http import HTTPStatus

from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidProxy, InvalidStatus

from hubbub.cli.address import ServerAddress
from hubbub.cli.failure import USAGE, Failure

__all__ = ["OPEN_TIMEOUT", "dialing", "tls_context"]

OPEN_TIMEOUT = 10
"""Longest time from the first packet to an open WebSocket, in seconds."""


def tls_context(address: ServerAddress, *, insecure: bool) -> ssl.SSLContext | None:
    """Return how to speak TLS with `address`, `None` where there is no TLS.

    Args:
        address: The server.
        insecure: Accept every certificate, for a server with a self-signed one.

    Raises:
        Failure: `insecure` makes no sense, as the address has no TLS.
    """
    if not address.uri.secure:
        if insecure:
            raise Failure(f"--insecure is for wss:// and https://, not for {address}", USAGE)
        return None
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])  # RFC 6455 is an upgrade of HTTP/1.1
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@contextmanager
def dialing(address: ServerAddress) -> Generator[None]:
    """Turn every way in which connecting can fail into a `Failure` that says what to do."""
    try:
        yield
    except TimeoutError as exc:  # of ours and of the network (ETIMEDOUT)
        raise Failure(f"{address.location} did not answer within {OPEN_TIMEOUT} s") from exc
    except InvalidStatus as exc:
        raise Failure(_refused(address, exc.response.status_code)) from exc
    except InvalidMessage as exc:
        raise Failure(f"{address.location} does not speak WebSocket: {_cause(exc)}") from exc
    except InvalidProxy as exc:
        raise Failure(f"the proxy of the environment cannot be used: {exc.msg}") from exc
    except InvalidHandshake as exc:
        raise Failure(f"no WebSocket with {address.location}: {exc}") from exc
    except ssl.SSLError as exc:
        raise Failure(_tls_failed(address, exc)) from exc
    except socket.gaierror as exc:
        raise Failure(f"host '{address.uri.host}' cannot be resolved: {exc.strerror}") from exc
    except OSError as exc:
        raise Failure(_unreachable(address, exc)) from exc


def _refused(address: ServerAddress, status: int) -> str:
    try:
        shown = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        shown = str(status)
    path = address.uri.path or "/"
    return f"{address.location} answered {shown} for {path} instead of opening a WebSocket"


def _cause(exc: BaseException) -> str:
    return str(exc.__cause__ or exc)


def _tls_failed(address: ServerAddress, exc: ssl.SSLError) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {address.location} is not trusted: {exc.verify_message}"
            " (--insecure connects all the same)"
        )
    if exc.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST"}:
        return f"{address.location} does not speak TLS: use ws://"
    return f"TLS with {address.location} failed: {exc.reason or exc}"


def _unreachable(address: ServerAddress, exc: OSError) -> str:
    codes = {exc.errno} if exc.errno else _codes_in(str(exc))
    if codes == {errno.ECONNREFUSED}:
        return f"nothing listens on {address.location}: connection refused"
    if codes == {errno.ECONNRESET}:
        return f"{address.location} cut the connection"
    return f"{address.location} cannot be reached: {exc.strerror or exc}"


def _codes_in(message: str) -> set[int]:
    # Of several failed addresses asyncio tells in text only (CPython, `create_connection`).
    return {int(code) for code in re.findall(r"\[Errno (\d+)\]", message)}
