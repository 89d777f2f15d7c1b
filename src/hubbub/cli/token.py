"""`hubbub token`: make tokens for clients, and see what is in one."""

import json
import re
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from hubbub.auth.keys import ALGORITHMS, SigningKey
from hubbub.auth.tokens import Tokens, sign
from hubbub.auth.tokens import inspect as read_unchecked
from hubbub.cli.escape import escape_json
from hubbub.cli.failure import FAILED, USAGE, Failure
from hubbub.cli.verdict import judge, report, show
from hubbub.errors import ConfigError

__all__ = ["app"]

MAX_FILE: Final = 65_536
"""Largest key file and largest token in bytes."""

MAX_DAYS: Final = 3650
"""Longest `--expires` in days; a server cuts what a token grants to 365."""

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"(?:[0-9]{1,12}[smhd])+")

app = typer.Typer(help="Make and inspect the tokens that clients connect with.")

SecretOption = Annotated[
    str | None,
    typer.Option(
        envvar="HUBBUB_TOKEN_SECRET",
        show_default=False,
        help="Shared secret (HS256, HS384, HS512). Better in the environment: others on this"
        " machine can read command lines.",
    ),
]
SecretFileOption = Annotated[
    Path | None, typer.Option(help="File with the secret; a line end after it does not count.")
]


@app.callback(invoke_without_command=True)
def _token(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def _duration(text: str) -> float | None:
    """Read `90s`, `1h30m`, `7d`; `None` is never."""
    if text == "never":
        return None
    if not _DURATION.fullmatch(text):
        raise typer.BadParameter(f"'{text}' is not a duration such as 30m, 1h, 7d, nor never")
    seconds = sum(int(count) * _UNITS[unit] for count, unit in re.findall(r"(\d+)(.)", text))
    if not 0 < seconds <= MAX_DAYS * _UNITS["d"]:
        raise typer.BadParameter(f"'{text}' is not from 1s to {MAX_DAYS}d")
    return float(seconds)


def _algorithm(text: str) -> str:
    name = next((name for name in ALGORITHMS if name.lower() == text.lower()), None)
    if name is None:
        raise typer.BadParameter(f"'{text}' is not one of {', '.join(ALGORITHMS)}")
    return name


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise typer.BadParameter(f"is not JSON: {exc}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a value of JSON")


@app.command()
def create(
    context: typer.Context,
    user: Annotated[str, typer.Argument(metavar="USER", help="User id; '' for an anonymous user.")],
    secret: SecretOption = None,
    secret_file: SecretFileOption = None,
    private_key: Annotated[
        Path | None, typer.Option(help="PEM file with an RSA, EC or Ed25519 key, to sign with it.")
    ] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(
            parser=_algorithm,
            metavar="<name>",
            help="How to sign; by default HS256, or what the private key is for.",
        ),
    ] = None,
    kid: Annotated[
        str | None, typer.Option(help="Name of the key, for servers with a JWK set.")
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(help="Make a token to subscribe to this channel, not one to connect."),
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(
            metavar="<a,b>", help="Channels that the server subscribes the connection to."
        ),
    ] = None,
    info: Annotated[
        Any,
        typer.Option(parser=_json, metavar="<json>", help="What others see of the user, as JSON."),
    ] = None,
    data: Annotated[
        Any,
        typer.Option(
            parser=_json, metavar="<json>", help="What the subscribing client gets, as JSON."
        ),
    ] = None,
    expires: Annotated[
        Any,
        typer.Option(
            parser=_duration, metavar="<duration>", help="30s, 15m, 1h, 7d, 1h30m; or never."
        ),
    ] = "1h",
    audience: Annotated[str | None, typer.Option(help="Value of the claim aud.")] = None,
    issuer: Annotated[str | None, typer.Option(help="Value of the claim iss.")] = None,
) -> None:
    """Print a token that a client can connect or subscribe with."""
    if channel == "":
        raise Failure("--channel: the name is empty", USAGE)
    if channel is not None and channels is not None:
        raise Failure("--channel and --channels contradict each other: give one of them", USAGE)
    if data is not None and channel is None:
        raise Failure("--data needs --channel: connection tokens carry none", USAGE)
    names = None if channels is None else channels.split(",")
    if names is not None and not all(names):
        raise Failure(f"--channels: '{channels}' has an empty name", USAGE)
    key, option = _signing_key(context, secret, secret_file, private_key)
    if algorithm is not None and algorithm not in key.algorithms:
        fitting = ", ".join(key.algorithms)
        raise Failure(f"--algorithm: {algorithm} does not fit {option}: use {fitting}", USAGE)
    now = int(time.time())
    claims = {
        "sub": user,
        "iat": now,
        "exp": None if expires is None else now + int(expires),
        "aud": audience,
        "iss": issuer,
        "channel": channel,
        "channels": names,
        "info": info,
        "data": data,
    }
    said = {name: value for name, value in claims.items() if value is not None}
    try:
        print(sign(said, key, algorithm, kid=kid))
    except UnicodeEncodeError as exc:
        raise Failure("an argument is not UTF-8", USAGE) from exc


@app.command()
def inspect(
    context: typer.Context,
    token: Annotated[
        str, typer.Argument(metavar="TOKEN", help="The token; - to read it from stdin.")
    ],
    secret: SecretOption = None,
    secret_file: SecretFileOption = None,
    public_key: Annotated[
        Path | None, typer.Option(help="PEM file with an RSA, EC or Ed25519 public key.")
    ] = None,
    jwks: Annotated[
        str | None, typer.Option(metavar="URL", help="JWK set: https:, http: or file:.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what a token says, for how long, and whether it is signed with your key.

    The exit code is 1 if it is expired, not valid yet or not valid at all, else 0; without a key
    nobody can tell who signed it, and only its times count.
    """
    tokens = _tokens(context, secret, secret_file, public_key, jwks)
    text = _read_standard_input() if token == "-" else token  # noqa: S105  # no password
    text = text.strip()
    found = read_unchecked(text)
    now = time.time()
    verdict = judge(text, found.claims, tokens, now)
    if as_json:
        print(escape_json(json.dumps(report(found, verdict, now), ensure_ascii=False)))
    else:
        show(found, verdict, now)
    if not verdict.accepted:
        raise typer.Exit(FAILED)


def _signing_key(
    context: typer.Context, secret: str | None, secret_file: Path | None, private_key: Path | None
) -> tuple[SigningKey, str]:
    """Return the key of the options, and the option that has it."""
    name = _chosen(context, "secret", "secret_file", "private_key")
    option = _option(context, name)
    with _configuring(option):
        match name:
            case "secret":
                return SigningKey.from_secret(secret or "", option), option
            case "secret_file":
                return SigningKey.from_secret(_read_secret(secret_file, option), option), option
            case "private_key":
                return SigningKey.from_pem(_read(private_key, option), option), option
    raise Failure(
        "a key is needed to sign with: set HUBBUB_TOKEN_SECRET, --secret-file or --private-key",
        USAGE,
    )


def _tokens(
    context: typer.Context,
    secret: str | None,
    secret_file: Path | None,
    public_key: Path | None,
    jwks: str | None,
) -> Tokens | None:
    """Return what checks with the key of the options; `None`: there is none."""
    name = _chosen(context, "secret", "secret_file", "public_key", "jwks")
    option = _option(context, name)
    with _configuring(option):
        match name:
            case "secret":
                return Tokens(secret=secret)
            case "secret_file":
                return Tokens(secret=_read_secret(secret_file, option))
            case "public_key":
                return Tokens(public_key=_read(public_key, option))
            case "jwks":
                return Tokens(jwks=jwks)
    return None


def _chosen(context: typer.Context, *names: str) -> str | None:
    """Return which one is given; what is on the command line goes before the environment."""
    for source in ("COMMANDLINE", "ENVIRONMENT"):
        given = [name for name in names if _source(context, name) == source]
        if len(given) > 1:
            options = " and ".join(_option(context, name) for name in given)
            raise Failure(f"{options} contradict each other: give one of them", USAGE)
        if given:
            return given[0]
    return None


def _source(context: typer.Context, name: str) -> str:
    source = context.get_parameter_source(name)
    return source.name if source is not None else ""


def _option(context: typer.Context, name: str | None) -> str:
    if name is None:
        return ""
    is_environment = _source(context, name) == "ENVIRONMENT"
    return "HUBBUB_TOKEN_SECRET" if is_environment else f"--{name.replace('_', '-')}"


@contextmanager
def _configuring(option: str) -> Generator[None]:
    try:
        yield
    except ConfigError as exc:
        raise Failure(f"{option}: {exc.problem}", USAGE) from exc


def _read_secret(path: Path | None, option: str) -> bytes:
    return _read(path, option).removesuffix(b"\n").removesuffix(b"\r")


def _read(path: Path | None, option: str) -> bytes:
    assert path is not None
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise Failure(f"{option}: '{path}' cannot be read: {reason}") from exc
    if len(data) > MAX_FILE:
        raise Failure(f"{option}: '{path}' is larger than {MAX_FILE} bytes")
    return data


def _read_standard_input() -> str:
    data = sys.stdin.buffer.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise Failure(f"the token on standard input is longer than {MAX_FILE} bytes")
    return data.decode(errors="replace")
