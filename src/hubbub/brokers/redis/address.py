"""Where a Valkey or Redis is, and how to speak to it: what the broker's URL says."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from hubbub.errors import ConfigError

__all__ = ["PARAMETERS", "SCHEMES", "Address", "Epochs", "parse_address"]

Epochs = Literal["auto", "keep", "renew"]
"""What becomes of the streams when another server process holds them than before.

`keep`: they go on. `renew`: they begin anew, with another epoch. `auto`: they go on if the server
says that it writes to disk before it answers (`appendonly yes`, `appendfsync always`), and is the
same server as before rather than a replica that was promoted.
"""

Kind = Literal["server", "sentinel", "cluster"]

SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
"""Schemes of URLs; `rediss` is TLS."""

PORT = 6379
SENTINEL_PORT = 26379
MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the broker is. Passwords do not show in its representation.

    Attributes:
        kind: Whether the hosts are a server, Sentinels that know one, or members of a cluster.
        hosts: Names and ports; empty with a path.
        path: Of a Unix socket.
        service: What Sentinel calls the server.
        db: Number of the database.
        username: At the server; empty: the default user.
        sentinel_username: At Sentinel.
        tls: Whether to use TLS, with verified certificates.
        ca: File with the certificates to trust; `None`: those of the system.
        cert: File with the client's certificate; `None`: none.
        key: File with its key; `None`: it is in `cert`.
        prefix: What names of keys and channels begin with.
        timeout: Seconds for the server to answer, and to bring back what a node sends itself.
        connect_timeout: Seconds to connect.
        pending: Most bytes of commands that wait for an answer; more are refused.
        sharded: Whether a cluster is asked for sharded pub/sub; `None`: if it has it.
        epochs: See `Epochs`.
    """

    kind: Kind = "server"
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)
    tls: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    prefix: str = "hubbub"
    timeout: float = 4.0
    connect_timeout: float = 4.0
    pending: int = 64 * MEBIBYTE
    sharded: bool | None = None
    epochs: Epochs = "auto"

    def __str__(self) -> str:
        """Return it for logs and errors, without user and password."""
        if self.path:
            return self.path
        hosts = ",".join(map(join_host, self.hosts))
        return f"{self.service}@{hosts}" if self.service else hosts


COMMON = ("connect_timeout", "epochs", "pending", "prefix", "timeout")
TLS = ("ca", "cert", "key")

PARAMETERS = {
    "redis": COMMON,
    "rediss": (*COMMON, *TLS),
    "unix": (*COMMON, "db"),
    "redis+sentinel": (*COMMON, "sentinel_password", "sentinel_username"),
    "rediss+sentinel": (*COMMON, *TLS, "sentinel_password", "sentinel_username"),
    "redis+cluster": (*COMMON, "sharded"),
    "rediss+cluster": (*COMMON, *TLS, "sharded"),
}
"""Parameters of each scheme's URLs."""


def parse_address(url: str) -> Address:
    """Return what a URL says.

        redis://user:password@localhost:6379/0?prefix=hubbub
        unix:///run/valkey.sock?db=0
        redis+sentinel://user:password@one:26379,two:26379/service/0
        redis+cluster://one:6379,two:6379

    Raises:
        ConfigError: Something in it is not understood. Nothing of the URL's user, password or
            unknown parameters' values is quoted.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _error("the URL is malformed") from None
    scheme = parts.scheme
    if scheme not in SCHEMES:
        raise _error(f"scheme {scheme!r} is none of {', '.join(SCHEMES)}")
    if parts.fragment:
        raise _error("the URL has a fragment: write '#' in a password as '%23'")
    values = _parameters(scheme, parts.query)
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    base, _, variant = scheme.partition("+")
    kind: Kind = "sentinel" if variant == "sentinel" else "cluster" if variant else "server"
    port = SENTINEL_PORT if kind == "sentinel" else PORT
    segments = [unquote(part) for part in parts.path.split("/")[1:]]
    path = service = ""
    db = 0
    if scheme == "unix":
        path = unquote(parts.path)
        if not path:
            raise _error("unix: needs the path of a socket: unix:///run/valkey.sock")
        if hosts:
            raise _error("unix: takes no host: unix:///path has three slashes")
        db = _db(values.get("db", "0"))
    elif kind == "sentinel":
        if not 1 <= len(segments) <= 2 or not segments[0]:
            raise _error(f"{scheme}: needs the service's name: {scheme}://host:{port}/service/0")
        service = segments[0]
        db = _db(segments[1]) if segments[1:] and segments[1] else 0
    elif segments not in ([], [""]):
        if kind == "cluster" or len(segments) > 1:
            what = "a cluster has no numbered databases" if kind == "cluster" else "a number"
            raise _error(f"the path {parts.path!r} should be empty: {what}")
        db = _db(segments[0])
    ca, key = values.get("ca"), values.get("key")
    return Address(
        kind=kind,
        hosts=() if path else tuple(_host(part, port) for part in hosts.split(",")),
        path=path,
        service=service,
        db=db,
        username=unquote(username),
        password=unquote(password),
        sentinel_username=values.get("sentinel_username", ""),
        sentinel_password=values.get("sentinel_password", ""),
        tls=base == "rediss",
        ca=ca,
        cert=values.get("cert"),
        key=key,
        prefix=_prefix(values.get("prefix", "hubbub")),
        timeout=_seconds("timeout", values.get("timeout", "4")),
        connect_timeout=_seconds("connect_timeout", values.get("connect_timeout", "4")),
        pending=_bytes(values.get("pending", str(64 * MEBIBYTE))),
        sharded=_choice("sharded", values["sharded"]) if "sharded" in values else None,
        epochs=_epochs(values.get("epochs", "auto")),
    )


def join_host(address: tuple[str, int]) -> str:
    """Return a host and its port as in a URL."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _error(problem: str) -> ConfigError:
    return ConfigError("broker", problem)


def _parameters(scheme: str, query: str) -> dict[str, str]:
    values: dict[str, str] = {}
    known = PARAMETERS[scheme]
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise _error(f"unknown parameter {name!r}: {scheme}: knows {', '.join(sorted(known))}")
        if name in values:
            raise _error(f"parameter {name!r} is there twice")
        values[name] = value
    return values


def _host(part: str, default: int) -> tuple[str, int]:
    """Return a host and its port; the host is never empty."""
    if part.startswith("["):
        host, _, rest = part[1:].partition("]")
    else:
        host, colon, rest = part.partition(":")
        rest = colon + rest
    port = rest.removeprefix(":")
    if rest and (not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536):
        raise _error(f"port {port!r} of host {host!r} should be a number up to 65535")
    return unquote(host) or "localhost", int(port) if port else default


def _db(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise _error(f"database {text!r} should be a number")
    return int(text)


def _prefix(text: str) -> str:
    # In a cluster, what is between the first braces of a key decides where it lives.
    if not text or "{" in text or "}" in text:
        raise _error(f"prefix={text}: some text without braces")
    return text


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise _error(f"{name}={text}: seconds, above 0")
    return seconds


def _bytes(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < MEBIBYTE:
        raise _error(f"pending={text}: bytes, {MEBIBYTE} or more")
    return int(text)


def _choice(name: str, text: str) -> bool:
    if text not in ("yes", "no"):
        raise _error(f"{name}={text}: yes or no")
    return text == "yes"


def _epochs(text: str) -> Epochs:
    match text:
        case "auto" | "keep" | "renew":
            return text
        case _:
            raise _error(f"epochs={text}: auto, keep or renew")
