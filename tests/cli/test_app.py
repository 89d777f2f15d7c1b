"""The command as a whole: help, version, and how errors look."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import hubbub
from tests.cli.conftest import Outcome

Invoke = Callable[..., Outcome]


def test_no_command_shows_help(invoke: Invoke) -> None:
    outcome = invoke()

    assert outcome.code == 0
    for command in ("demo", "hello", "run", "dev", "connect", "tap", "bench", "token"):
        assert f" {command} " in outcome.stdout


def test_bench_without_a_command_shows_help(invoke: Invoke) -> None:
    outcome = invoke("bench")

    assert outcome.code == 0
    assert " echo " in outcome.stdout


def test_version_is_the_packages(invoke: Invoke) -> None:
    assert invoke("--version") == Outcome(0, f"hubbub {hubbub.__version__}\n", "")


@pytest.mark.parametrize("command", [["python", "-m", "hubbub"], ["hubbub"]])
def test_module_and_script_are_the_same(command: list[str]) -> None:
    program = str(Path(sys.executable).with_name(command[0]))
    ended = subprocess.run(
        [program, *command[1:], "--version"], capture_output=True, text=True, check=True
    )

    assert ended.stdout == f"hubbub {hubbub.__version__}\n"


@pytest.mark.parametrize("command", ["run", "dev"])
def test_help_names_every_environment_variable(invoke: Invoke, command: str) -> None:
    shown = invoke(command, "--help").stdout

    for name in (
        "HOST",
        "PORT",
        "UDS",
        "FD",
        "SSL_CERTFILE",
        "SSL_KEYFILE",
        "RELOAD",
        "LOG_LEVEL",
        "LOG_FORMAT",
    ):
        assert f"HUBBUB_{name}" in shown


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["helo"], ["'helo'", "'hello'"]),
        (["run"], ["MODULE:ATTRIBUTE"]),
        (["hello", "--prot", "1"], ["--prot"]),
        (["hello", "--port", "70000"], ["'--port'", "70000 is not from 0 to 65535"]),
        (["hello", "--port", "web"], ["'--port'", "'web' is not a whole number"]),
        (["run", "a:b", "--log-format", "xml"], ["--log-format", "'xml'", "'text', 'json'"]),
        (["run", "a:b", "--fd", "-1"], ["--fd", "-1 is not from 0 to"]),
        (["run", "a:b", "--uds", "/s", "--port", "1"], ["--port and --uds contradict each other"]),
        (["run", "a:b", "--uds", "/s", "--fd", "3"], ["--uds and --fd contradict each other"]),
        (["run", "a:b", "--ssl-keyfile", "k"], ["--ssl-keyfile needs --ssl-certfile"]),
        (["connect", "ws://x", "--insecure"], ["--insecure is for wss:// and https://"]),
        (["connect", "x", "--wait", "3601"], ["'--wait'", "3601 is not from 0 to 3600"]),
        (["connect", "x", "--header", "a b: c"], ["--header: 'a b: c' is not of the form"]),
        (["connect", "x", "--header", "A: b\nC: d"], ["--header: 'A: b", "is not of the form"]),
        (["connect", "x", "--header", "Host: y"], ["--header: 'Host' cannot be given"]),
        (["connect", "x", "--header", "Origin: y"], ["'Origin' cannot be given: use --origin"]),
        (["connect", "x", "--origin", "a\rb"], ["--origin: 'a", "is not the value of a header"]),
        (["connect", "x", "--subprotocol", "a b"], ["--subprotocol: 'a b' is not a name"]),
        (["bench", "echo", "x", "--connections", "10001"], ["10001 is not from 1 to 10000"]),
        (["bench", "echo", "x", "--size", "0"], ["'--size'", "0 is not from 1 to 1048576"]),
        (["bench", "echo", "x", "--seconds", "nan"], ["'--seconds'", "nan is not from 0.1 to 600"]),
        (["bench", "echo", "x", "--seconds", "601"], ["601 is not from 0.1 to 600"]),
    ],
)
def test_wrong_command_line_is_one_line_and_code_2(
    invoke: Invoke, arguments: list[str], parts: list[str]
) -> None:
    outcome = invoke(*arguments)

    assert outcome.code == 2
    assert outcome.stdout == ""
    assert outcome.stderr.startswith("error: ")
    assert outcome.stderr.count("\n") == 1
    for part in parts:
        assert part in outcome.stderr


def test_contradiction_in_the_environment_names_the_variables(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBBUB_PORT", "1")
    monkeypatch.setenv("HUBBUB_FD", "3")

    assert "HUBBUB_PORT and HUBBUB_FD contradict each other" in invoke("run", "a:b").stderr


def test_command_line_goes_before_the_environment(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBBUB_HOST", "nosuch.invalid")

    assert "descriptor 9999 is not open" in invoke("run", "asyncio:sleep", "--fd", "9999").stderr


def test_errors_show_no_control_characters(invoke: Invoke) -> None:
    outcome = invoke("run", "\x1b[2Japp")

    assert outcome.code == 1
    assert r"'\x1b[2Japp' is not of the form" in outcome.stderr
