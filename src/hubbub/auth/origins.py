"""Origins: which web pages may open a connection (client protocol, section 1.1; RFC 6454).

Browsers send cookies along with whatever page asks, and say in `Origin` which page that is. Other
clients send none, or what they like: this check protects users of browsers from foreign pages, and
authenticates nobody.
"""

import re
from collections.abc import Sequence
from typing import Final

from hubbub.errors import ConfigError

__all__ = ["Origins"]

_DEFAULT_PORTS: Final = {"http": "80", "https": "443", "ws": "80", "wss": "443"}

_HOST: Final = r"(?P<host>\[[0-9a-f:.*]+\]|[^\s/?#@:\[\]\\]{1,255})"
_PORT: Final = r"(?::(?P<port>[0-9]{1,5}))?"
_ORIGIN: Final = re.compile(rf"(?P<scheme>[a-z][a-z0-9+.-]{{0,63}})://{_HOST}{_PORT}")
_HOST_HEADER: Final = re.compile(_HOST + _PORT)
_PATTERN: Final = re.compile(r"[a-z*][a-z0-9+.*-]*://[^\s/?#@\\]+")


class Origins:
    """Decides by the `Origin` header, case-insensitively.

    Allowed are requests without the header, those of the same origin as the server, and those of
    an origin that matches a pattern. Same origin: host and port are those of the `Host` header. The
    scheme counts only where TLS ends here or a trusted proxy tells it: behind another that ends it,
    a page of `https:` is right and the request comes without TLS. Such a proxy must hand `Host` on
    as it came. A port that is the
    scheme's own is the same as none.

    Args:
        patterns: `https://example.com`, `https://*.example.com`, `http://localhost:*`: a `*` stands
            for any characters but `/`, for dots and colons too. `null`: pages without an origin,
            such as files and sandboxed frames. `*`: all pages there are.

    Raises:
        ConfigError: A pattern could never match: it has no scheme, or a path.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._all = "*" in patterns
        self._null = "null" in patterns
        self._patterns = [_compile(pattern) for pattern in patterns if pattern not in {"*", "null"}]

    def allows(self, origin: str | None, host: str | None, secure: bool) -> bool:
        """Tell whether a request may go on.

        Args:
            origin: Its `Origin` header. `None`: it has none, and is no page's.
            host: Its `Host` header, or what a trusted proxy says of it.
            secure: Whether it came by TLS that ends in this server, or in a proxy that is trusted.
        """
        if origin is None or self._all:
            return True
        if origin == "null":
            return self._null
        parsed = _ORIGIN.fullmatch(origin.lower())
        if parsed is None:
            return False
        scheme, name, port = parsed["scheme"], parsed["host"], parsed["port"]
        if _is_same(scheme, name, port, host, secure):
            return True
        shown = f"{scheme}://{name}{_port_suffix(scheme, port)}"
        return any(pattern.fullmatch(shown) for pattern in self._patterns)


def _is_same(scheme: str, name: str, port: str | None, host: str | None, secure: bool) -> bool:
    if scheme != "https" and (secure or scheme != "http"):
        return False
    server = _HOST_HEADER.fullmatch((host or "").lower())
    if server is None or server["host"] != name:
        return False
    # The page's scheme says what no port means in both: that of the request may be the proxy's.
    return _port_suffix(scheme, server["port"]) == _port_suffix(scheme, port)


def _port_suffix(scheme: str, port: str | None) -> str:
    """Return a port as browsers write it, which leave the scheme's own out."""
    number = (port or "").lstrip("0")
    return f":{number}" if number and number != _DEFAULT_PORTS.get(scheme) else ""


def _compile(pattern: str) -> re.Pattern[str]:
    lowered = pattern.lower()
    if not _PATTERN.fullmatch(lowered):
        example = "of the form https://example.com, https://*.example.com:8443, null or *"
        raise ConfigError("origins", f"{pattern!r} is not {example}")
    if (exact := _ORIGIN.fullmatch(lowered)) is not None:
        suffix = _port_suffix(exact["scheme"], exact["port"])
        lowered = f"{exact['scheme']}://{exact['host']}{suffix}"
    return re.compile("[^/]*".join(map(re.escape, re.split(r"\*+", lowered))))
