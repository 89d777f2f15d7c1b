"""`hubbub token`: what it makes others accept, and what it says of what others made."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.auth.issuer import issuing
from tests.auth.signing import (
    ASYMMETRIC,
    SECRET,
    encode64,
    jwk,
    private_pem,
    public_pem,
    signed,
    token,
)
from tests.cli.commands import TIMEOUT
from tests.cli.conftest import Outcome

Invoke = Callable[..., Outcome]

OTHER = SECRET.replace("secret", "sesame")


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("HUBBUB_TOKEN_SECRET", SECRET)
    monkeypatch.setenv("no_proxy", "*")
    return monkeypatch


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


# create


def created(invoke: Invoke, *arguments: str, key: str = SECRET, **options: Any) -> dict[str, Any]:
    outcome = invoke("token", "create", *arguments)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.count("\n") == 1
    return jwt.decode(outcome.stdout.strip(), key, options.pop("algorithms", ["HS256"]), **options)


def test_connection_token_lasts_an_hour(invoke: Invoke) -> None:
    before = int(time.time())
    claims = created(invoke, "42")
    after = int(time.time())

    assert set(claims) == {"sub", "iat", "exp"}
    assert claims["sub"] == "42"
    assert before <= claims["iat"] <= after
    assert claims["exp"] == claims["iat"] + 3600


def test_connection_token_with_everything(invoke: Invoke) -> None:
    claims = created(
        invoke,
        "42",
        *("--channels", "news,chat:lobby", "--info", '{"name": "Ann"}'),
        *("--audience", "us", "--issuer", "me", "--expires", "never"),
        audience="us",
    )

    del claims["iat"]
    assert claims == {
        "sub": "42",
        "channels": ["news", "chat:lobby"],
        "info": {"name": "Ann"},
        "aud": "us",
        "iss": "me",
    }


def test_subscription_token(invoke: Invoke) -> None:
    claims = created(invoke, "", "--channel", "news", "--data", "[1]", "--info", "false")

    assert (claims["sub"], claims["channel"]) == ("", "news")
    assert (claims["data"], claims["info"]) == ([1], False)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("90m", 5400), ("1h30m", 5400), ("7d", 604_800)]
)
def test_expires(invoke: Invoke, text: str, seconds: int) -> None:
    claims = created(invoke, "42", "--expires", text)

    assert claims["exp"] - claims["iat"] == seconds


def test_secret_of_the_command_line_goes_before_the_environment(
    invoke: Invoke, tmp_path: Path
) -> None:
    created(invoke, "42", "--secret", OTHER, key=OTHER)
    created(invoke, "42", "--secret-file", write(tmp_path / "a", OTHER), key=OTHER)
    created(invoke, "42", "--secret-file", write(tmp_path / "b", f"{OTHER}\r\n"), key=OTHER)
    created(invoke, "42", "--secret-file", write(tmp_path / "c", f"{OTHER}\n\n"), key=f"{OTHER}\n")


def test_algorithm_of_a_secret(invoke: Invoke) -> None:
    created(invoke, "42", "--algorithm", "hs512", algorithms=["HS512"])


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_private_key(invoke: Invoke, tmp_path: Path, algorithm: str) -> None:
    path = write(tmp_path / "key.pem", private_pem(algorithm))
    public, allowed = public_pem(algorithm), [algorithm]

    options = ["--private-key", path, "--algorithm", algorithm, "--kid", "k"]
    created(invoke, "42", *options, key=public, algorithms=allowed)
    first = {"RS384": "RS256", "RS512": "RS256"}.get(algorithm, algorithm)
    created(invoke, "42", "--private-key", path, key=public, algorithms=[first])


def test_kid_names_the_key(invoke: Invoke) -> None:
    made = invoke("token", "create", "42", "--kid", "k1").stdout.strip()

    assert jwt.get_unverified_header(made)["kid"] == "k1"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["USER"]),
        (["a", "--secret", ""], ["--secret: is empty"]),
        (["a", "--secret", public_pem("ES256")], ["--secret: is a key in PEM", "not a secret"]),
        (["a", "--secret", "a", "--secret-file", "b"], ["--secret and --secret-file contradict"]),
        (["a", "--secret", "a", "--private-key", "b"], ["--secret and --private-key contradict"]),
        (["a", "--secret-file", "/dev/null"], ["--secret-file: is empty"]),
        (["a", "--private-key", "/dev/null"], ["--private-key: is not a private key in PEM form"]),
        (["a", "--algorithm", "none"], ["'--algorithm'", "'none' is not one of HS256, "]),
        (
            ["a", "--algorithm", "RS256"],
            ["--algorithm: RS256 does not fit HUBBUB_TOKEN_SECRET: use HS256, HS384, HS512"],
        ),
        (["a", "--channel", ""], ["--channel: the name is empty"]),
        (["a", "--channel", "a", "--channels", "b"], ["--channel and --channels contradict"]),
        (["a", "--channels", "a,,b"], ["--channels: 'a,,b' has an empty name"]),
        (["a", "--data", "1"], ["--data needs --channel"]),
        (["a", "--info", "{"], ["'--info'", "is not JSON: "]),
        (["a", "--info", "NaN"], ["'--info'", "NaN is not a value of JSON"]),
        (["a", "--info", "[" * 50_000], ["'--info'", "is not JSON: "]),
        (["a", "--data", "x"], ["'--data'", "is not JSON: "]),
        (["a", "--expires", "1"], ["'--expires'", "'1' is not a duration such as 30m, 1h, 7d"]),
        (["a", "--expires", "-1h"], ["'--expires'", "'-1h' is not a duration"]),
        (["a", "--expires", "0s"], ["'--expires'", "'0s' is not from 1s to 3650d"]),
        (["a", "--expires", "3651d"], ["'3651d' is not from 1s to 3650d"]),
        (["\udcff"], ["an argument is not UTF-8"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_options_of_create_are_one_line_and_code_2(
    invoke: Invoke, arguments: list[str], parts: list[str]
) -> None:
    outcome = invoke("token", "create", *arguments)

    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.count("\n") == 1
    for part in parts:
        assert part in outcome.stderr


def test_key_is_needed_to_sign(invoke: Invoke, secret: pytest.MonkeyPatch) -> None:
    secret.delenv("HUBBUB_TOKEN_SECRET")
    outcome = invoke("token", "create", "42")

    assert outcome.code == 2
    assert "set HUBBUB_TOKEN_SECRET, --secret-file or --private-key" in outcome.stderr


def test_bad_secret_in_the_environment_names_the_variable(
    invoke: Invoke, secret: pytest.MonkeyPatch
) -> None:
    secret.setenv("HUBBUB_TOKEN_SECRET", public_pem("ES256"))

    assert "error: HUBBUB_TOKEN_SECRET: is a key" in invoke("token", "create", "42").stderr


def test_file_that_cannot_be_read(invoke: Invoke, tmp_path: Path) -> None:
    for option, path in (("--secret-file", tmp_path / "none"), ("--private-key", tmp_path)):
        outcome = invoke("token", "create", "42", option, str(path))
        assert outcome.code == 1
        assert f"{option}: '{path}' cannot be read: " in outcome.stderr
    large = write(tmp_path / "large", "x" * 65_537)
    outcome = invoke("token", "create", "42", "--secret-file", large)
    assert "is larger than 65536 bytes" in outcome.stderr


# inspect


def seen(invoke: Invoke, *arguments: str) -> tuple[int | None, dict[str, Any]]:
    outcome = invoke("token", "inspect", "--json", *arguments)
    assert outcome.stderr == ""
    assert outcome.stdout.count("\n") == 1
    return outcome.code, json.loads(outcome.stdout)


def test_inspect_accepts_what_create_makes(invoke: Invoke) -> None:
    made = invoke("token", "create", "42", "--info", '"é"').stdout.strip()
    code, report = seen(invoke, made)

    assert code == 0
    assert (report["verdict"], report["signature"], report["problem"]) == ("valid", "right", None)
    assert report["kind"] == "connection"
    assert report["header"] == {"alg": "HS256", "typ": "JWT"}
    assert report["claims"]["info"] == "é"
    assert 3500 < report["expires_in_seconds"] <= 3600


def ahead(seconds: float) -> int:
    return int(time.time() + seconds)


@pytest.mark.parametrize(
    ("claims", "key", "expected"),
    [
        ({}, SECRET, (0, "valid", "right", None)),
        ({"channel": "news"}, SECRET, (0, "valid", "right", None)),
        ({"exp": 5}, SECRET, (1, "expired", "right", "exp is over")),
        ({"nbf": 9e9}, SECRET, (1, "not valid yet", "right", "nbf has not come")),
        ({"nbf": 9e9, "exp": 5}, SECRET, (1, "expired", "right", "exp is over")),
        ({"nbf": 8e9, "exp": 9e9}, SECRET, (1, "not valid yet", "right", "nbf has not come")),
        ({"info": 1, "b64info": "?"}, SECRET, (1, "invalid", "right", "b64info is not base64")),
        ({"exp": 5}, OTHER, (1, "invalid", "wrong", "signature is wrong")),
    ],
)
def test_verdict_with_a_key(
    invoke: Invoke, claims: dict[str, Any], key: str, expected: tuple[Any, ...]
) -> None:
    code, report = seen(invoke, token(claims, key))

    assert expected == (code, report["verdict"], report["signature"], report["problem"])


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, (0, "not checked", None)),
        ({"exp": 5}, (1, "expired", "exp is over")),
        (
            {"channel": 5},
            (1, "invalid", "claims: Expected `str | null`, got `int` - at `$.channel`"),
        ),
        ({"exp": 10**300}, (0, "not checked", None)),
        ({"exp": 10**400}, (1, "invalid", "claims: Number out of range - at `$.exp`")),
    ],
)
def test_verdict_without_a_key(
    invoke: Invoke, secret: pytest.MonkeyPatch, claims: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    secret.delenv("HUBBUB_TOKEN_SECRET")
    code, report = seen(invoke, token(claims))

    assert report["signature"] == "not checked"
    assert expected == (code, report["verdict"], report["problem"])


def test_unsigned_token_is_shown_and_invalid(invoke: Invoke, secret: pytest.MonkeyPatch) -> None:
    secret.delenv("HUBBUB_TOKEN_SECRET")
    made = f"{encode64({'alg': 'none'})}.{encode64({'sub': 'admin'})}."
    code, report = seen(invoke, made)

    assert (code, report["verdict"]) == (1, "invalid")
    assert report["problem"] == "algorithm is not supported"
    assert report["claims"] == {"sub": "admin"}


def test_inspect_with_a_file(invoke: Invoke, tmp_path: Path) -> None:
    right = write(tmp_path / "right", public_pem("ES256"))
    wrong = write(tmp_path / "wrong", public_pem("ES256", 1))
    secret_file = write(tmp_path / "secret", OTHER + "\n")

    assert seen(invoke, signed({}, "ES256"), "--public-key", right)[1]["verdict"] == "valid"
    assert seen(invoke, signed({}, "ES256"), "--public-key", wrong)[1]["signature"] == "wrong"
    assert seen(invoke, token({}, OTHER), "--secret-file", secret_file)[1]["verdict"] == "valid"
    assert seen(invoke, token({}, OTHER), "--secret", OTHER)[1]["verdict"] == "valid"


def test_inspect_with_a_key_set(invoke: Invoke) -> None:
    with issuing() as issuer:
        issuer.body = {"keys": [jwk("ES256", "k")]}
        made = signed({}, "ES256", kid="k")
        assert seen(invoke, made, "--jwks", issuer.url)[1]["verdict"] == "valid"
        assert seen(invoke, signed({}, "ES256", 1, "k"), "--jwks", issuer.url)[0] == 1
        issuer.status = 404
        outcome = invoke("token", "inspect", made, "--jwks", issuer.url)
    assert (outcome.code, outcome.stdout) == (1, "")
    assert "error: token: keys of 127.0.0.1 cannot be had: HTTP status 404" in outcome.stderr


def test_inspect_for_people(invoke: Invoke) -> None:
    made = token(
        {"sub": "4\x1b[2J\u202e2", "exp": ahead(7300), "iat": 5, "ch\u202eannels": ["[red]a"]}
    )
    outcome = invoke("token", "inspect", made)

    lines = [re.split(r"  +", line, maxsplit=1) for line in outcome.stdout.splitlines()]
    shown = dict(lines)
    assert outcome.code == 0
    assert shown["kind"] == "connection token"
    assert shown["header alg"] == '"HS256"'
    assert shown["claim sub"] == r'"4\u001b[2J\u202e2"'
    assert shown[r"claim ch\u202eannels"] == '["[red]a"]'
    assert shown["claim iat"].startswith("5  1970-01-01 00:00:05 UTC, ")
    assert shown["claim iat"].endswith(" ago")
    assert re.search(r"UTC, in 2h 1m$", shown["claim exp"])
    assert shown["signature"] == "right"
    assert shown["verdict"] == "valid for 2h 1m"


@pytest.mark.parametrize(
    ("claims", "verdict"),
    [
        ({}, "valid for ever"),
        ({"exp": 5}, r"expired since \d+d \d+h"),
        ({"nbf": 9e9}, r"not valid yet \(nbf has not come\)"),
        ({"channel": []}, r"invalid \(claims: Expected .*\)"),
        ({"exp": 1e300}, r"valid for \d+d .*"),
    ],
)
def test_verdict_for_people(invoke: Invoke, claims: dict[str, Any], verdict: str) -> None:
    shown = invoke("token", "inspect", token(claims)).stdout

    assert re.search(rf"^verdict +{verdict}$", shown, re.MULTILINE), shown


def test_verdict_for_people_without_a_key(invoke: Invoke, secret: pytest.MonkeyPatch) -> None:
    secret.delenv("HUBBUB_TOKEN_SECRET")
    shown = invoke("token", "inspect", token({})).stdout

    assert re.search(r"^signature +not checked$", shown, re.MULTILINE)
    assert "not checked (no key was given; would be valid for ever)" in shown


def test_token_from_standard_input() -> None:
    command = [sys.executable, "-m", "hubbub", "token", "inspect", "-", "--json"]
    for text, code in ((f"  {token({})}\n", 0), ("é.b.c", 1), ("x" * 70_000, 1), ("", 1)):
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=TIMEOUT)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
    assert "three parts" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "TOKEN"),
        (["a", "--secret", "a", "--jwks", "b"], "--secret and --jwks contradict each other"),
        (["a", "--jwks", "ftp://h/"], "--jwks: is not an https:, http: or file: URL"),
        (["a", "--public-key", "/dev/null"], "--public-key: is not a public key in PEM form"),
        (["a", "--secret-file", "/dev/null"], "--secret-file: is empty"),
    ],
)
def test_wrong_options_of_inspect(invoke: Invoke, arguments: list[str], part: str) -> None:
    outcome = invoke("token", "inspect", *arguments)

    assert (outcome.code, outcome.stdout) == (2, "")
    assert part in outcome.stderr


def test_text_that_is_no_token_fails_without_being_quoted(invoke: Invoke) -> None:
    outcome = invoke("token", "inspect", "SECRET")

    assert outcome == Outcome(
        1, "", "error: token: does not consist of three parts with dots between\n"
    )


def test_help(invoke: Invoke, secret: pytest.MonkeyPatch) -> None:
    assert " create " in invoke("token").stdout
    shown = invoke("token", "create", "--help").stdout
    assert "HUBBUB_TOKEN_SECRET" in shown
    assert "Better in the environment" in shown
    assert SECRET not in shown
    assert " token " in invoke().stdout
