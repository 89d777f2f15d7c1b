"""The service for systemd: what it names exists, its times agree, systemd understands it."""

import configparser
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import hubbub
from tests.deploy.settings import assert_command_exists, seconds, time_to_stop
from tests.programs import ROOT
from tests.timing import MS
from tests.tools import find_tool

UNIT = ROOT / "deploy" / "systemd" / "hubbub.service"
TIMEOUT = 20_000 * MS

# Of 100, by `systemd-analyze security`; a service without any hardening has 96.
MAX_EXPOSURE = 15


@pytest.fixture
def service() -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as the manual has it
    parser.read(UNIT, encoding="utf-8")
    return parser["Service"]


def test_command_and_its_options_exist(service: configparser.SectionProxy) -> None:
    command = shlex.split(service["ExecStart"])

    assert_command_exists(command)
    assert Path(command[0]).is_relative_to(service["WorkingDirectory"])


def test_times_agree(service: configparser.SectionProxy) -> None:
    command = shlex.split(service["ExecStart"])
    drain = float(command[command.index("--drain") + 1])

    assert seconds(service["TimeoutStopSec"]) > time_to_stop(drain)


def test_signals_are_those_of_hubbub(service: configparser.SectionProxy) -> None:
    assert "KillSignal" not in service  # SIGTERM
    assert service["KillMode"] == "mixed"
    assert shlex.split(service["ExecReload"])[1:] == ["-HUP", "$MAINPID"]


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
def test_program_says_that_it_listens(service: configparser.SectionProxy, tmp_path: Path) -> None:
    assert service["Type"] == "notify"
    (tmp_path / "app.py").write_text("async def handler(websocket): ...")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        path = f"\0hubbub-{os.getpid()}"
        manager.bind(path)
        manager.settimeout(TIMEOUT)
        environment = {"NOTIFY_SOCKET": path.replace("\0", "@")}
        with hubbub("run", "app:handler", "--port", "0", cwd=tmp_path, env=environment) as command:
            assert command.port
            manager.settimeout(1000 * MS)  # it has said where it listens

            assert b"READY=1" in manager.recv(4096)


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
def test_systemd_understands_it_and_it_is_confined(tmp_path: Path) -> None:
    analyze = find_tool("systemd-analyze", install="apt install systemd")
    text = UNIT.read_text(encoding="utf-8")
    program = "/srv/hubbub/env/bin/hubbub"
    assert text.count(program) == 1
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace(program, sys.executable), encoding="utf-8")
    for command in (["verify"], ["security", "--offline=true", f"--threshold={MAX_EXPOSURE}"]):
        done = subprocess.run(
            [analyze, *command, unit], capture_output=True, text=True, timeout=TIMEOUT
        )

        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
