"""Who the client is behind proxies: `X-Forwarded-*` and `Forwarded` (RFC 7239) of trusted ones.

Everybody may send these headers. What the peer of a socket says in them counts if the peer is
trusted; what it says another one has said, if that one is trusted too; and so on, from the right
of the list to the first address that is not trusted: the client (ADR 0018).
"""

import ipaddress
import logging
import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from hubbub.errors import ConfigError

__all__ = ["Forwarded", "ForwardedScope", "TrustedProxies"]

logger = logging.getLogger("hubbub.server")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Values = Callable[[str], Sequence[str]]

_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}

_NODE: Final = re.compile(r"(?P<v4>[0-9.]+)(?::\w+)?|\[(?P<v6>[0-9A-Fa-f:.]+)\](?::\w+)?")
_HOST: Final = re.compile(r"[^\s/?#@\\,;\"]{1,255}")
# Values that ought to be quoted, such as addresses with a port, often are not: let them pass.
_PAIR: Final = re.compile(
    r"[ \t]*(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)="
    r'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s;,"]+))[ \t]*(?P<end>[;,]|$)'
)


class Forwarded(NamedTuple):
    """What is known of the client of a request.

    Attributes:
        address: Its IP address; `None`: unknown, on a Unix socket.
        scheme: `http` or `https`, what the client speaks.
        host: The `Host` that the client asked for; `None`: it did not say.
    """

    address: str | None
    scheme: str
    host: str | None


class TrustedProxies:
    """Proxies whose headers are believed.

    Args:
        proxies: Addresses, networks (`10.0.0.0/8`, `fd00::/8`), or `unix`: whoever connects to a
            Unix socket. Empty: no header is believed.

    Raises:
        ConfigError: One is none of these.
    """

    def __init__(self, proxies: Sequence[str] = ()) -> None:
        if isinstance(proxies, str):
            raise ConfigError("trusted_proxies", f"{proxies!r} is a string: give a list of them")
        self._unix = "unix" in proxies
        self._networks = [_network(each) for each in proxies if each != "unix"]

    def __bool__(self) -> bool:
        """Whether anybody is trusted."""
        return self._unix or bool(self._networks)

    def find_client(self, peer: str | None, scheme: str, values: _Values) -> Forwarded:
        """Find out who the client is.

        What is malformed in the headers, disagrees, or names nobody, makes the peer the client.

        Args:
            peer: Address at the other end of the socket; `None`: the socket is a Unix socket. What
                is no address of IP is trusted by nobody.
            scheme: `http`, or `https` if TLS ends in this server.
            values: Returns all values that a header has in the request, by name.
        """
        hosts = values("Host")
        host = hosts[0] if len(hosts) == 1 else None
        try:
            address = None if peer is None else _normal(ipaddress.ip_address(peer))
        except ValueError:
            return Forwarded(None, scheme, host)
        direct = Forwarded(None if address is None else str(address), scheme, host)
        if not (self._unix if address is None else self._trusts(address)):
            return direct
        try:
            return self._read(direct, values)
        except ValueError as exc:
            logger.debug("! took the proxy %s for the client: %s", peer or "unix", exc)
            return direct

    def _read(self, direct: Forwarded, values: _Values) -> Forwarded:
        listed = _split(values("X-Forwarded-For"))
        elements = _parse_forwarded(", ".join(values("Forwarded")))
        if not elements:
            found = self._read_x(direct, listed, values)
        elif not listed:
            found = self._read_standard(direct, elements)
        else:
            # A proxy that sets one hands on the other as it came. Neither is above the other.
            found = self._read_x(direct, listed, values)
            other = self._read_standard(direct, elements)
            if found.address != other.address:
                raise ValueError("X-Forwarded-For and Forwarded name different clients")
        return found

    def _read_x(self, direct: Forwarded, listed: Sequence[str], values: _Values) -> Forwarded:
        at, address = self._walk(listed) if listed else (-1, direct.address)
        scheme = _at(_split(values("X-Forwarded-Proto")), at, len(listed))
        host = _at(_split(values("X-Forwarded-Host")), at, len(listed))
        return _checked(direct, address, scheme, host)

    def _read_standard(self, direct: Forwarded, elements: Sequence[dict[str, str]]) -> Forwarded:
        at, address = self._walk([each.get("for", "unknown") for each in elements])
        return _checked(direct, address, elements[at].get("proto"), elements[at].get("host"))

    def _walk(self, nodes: Sequence[str]) -> tuple[int, str]:
        """Return where in the list the client is, and its address."""
        for at in reversed(range(len(nodes))):
            address = _parse_node(nodes[at])
            if at == 0 or not self._trusts(address):
                return at, str(address)
        raise AssertionError("unreachable: the list is not empty")

    def _trusts(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)


class ForwardedScope:
    """Tells an ASGI app who the client is: `client` and `scheme` of its scopes.

    The client's port is 0, since no proxy says it.
    """

    def __init__(self, app: ASGIApp, proxies: TrustedProxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Set the two, and call the app."""
        if scope["type"] == "http":

            def values(name: str) -> list[str]:
                wanted = name.lower().encode()
                return [value.decode("latin-1") for key, value in scope["headers"] if key == wanted]

            client = scope["client"]
            peer = client[0] if client else None
            found = self._proxies.find_client(peer, scope["scheme"], values)
            scope["scheme"] = found.scheme
            # The same address keeps its port.
            if found.address is not None and (peer is None or found.address != peer):
                scope["client"] = (found.address, 0)
        await self._app(scope, receive, send)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as exc:
        wanted = "an address, a network such as 10.0.0.0/8, or unix"
        raise ConfigError("trusted_proxies", f"{text!r} is not {wanted}: {exc}") from None


def _normal(address: _Address) -> _Address:
    """Return the address of IPv4 that one of IPv6 stands for, as on sockets for both."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _parse_node(text: str) -> _Address:
    """Read an address with or without a port; `unknown` and made-up names are none."""
    match = _NODE.fullmatch(text)
    if match is not None:
        text = match["v4"] or match["v6"]
    elif "%" in text:
        raise ValueError(f"{text!a} has a zone")
    return _normal(ipaddress.ip_address(text))


def _parse_forwarded(text: str) -> list[dict[str, str]]:
    """Read `Forwarded` (RFC 7239 §4): parameters by name, one element for each proxy."""
    elements: list[dict[str, str]] = [{}]
    position = 0
    while position < len(text):
        pair = _PAIR.match(text, position)
        if pair is None:
            raise ValueError(f"Forwarded is malformed at {text[position : position + 40]!a}")
        name, quoted = pair["name"].lower(), pair["quoted"]
        if name in elements[-1]:
            raise ValueError(f"Forwarded has {name!a} twice for one proxy")
        elements[-1][name] = pair["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        if pair["end"] == ",":
            elements.append({})
        position = pair.end()
    return elements if text else []


def _split(values: Sequence[str]) -> list[str]:
    """Return the items of a header that is a list, over all its lines (RFC 9110 §5.6.1)."""
    return [item.strip() for value in values for item in value.split(",") if item.strip()]


def _at(items: Sequence[str], at: int, count: int) -> str | None:
    """Return the item that belongs to the client, of a list that may be shorter than the other.

    Some proxies append to the list and some replace it: the last is the nearest proxy's word.
    """
    if not items:
        return None
    return items[at] if len(items) == count else items[-1]


def _checked(
    direct: Forwarded, address: str | None, scheme: str | None, host: str | None
) -> Forwarded:
    if scheme is not None and scheme.lower() not in _SCHEMES:
        raise ValueError(f"{scheme!a} is no scheme of the web")
    if host is not None and not _HOST.fullmatch(host):
        raise ValueError(f"{host!a} is no host")
    return Forwarded(
        address,
        direct.scheme if scheme is None else _SCHEMES[scheme.lower()],
        direct.host if host is None else host,
    )
