"""Dockerfile and compose file: what they name exists, and what they say agrees.

No engine runs them here.
"""

import asyncio
import ipaddress
import json
import re
import shlex
import sys
import tomllib
from typing import Any

import pytest
import yaml

from hubbub import ServerConnection, serve
from tests.deploy.settings import (
    assert_command_exists,
    assert_variables_exist,
    seconds,
    time_to_stop,
)
from tests.programs import ROOT
from tests.timing import MS

FOLDER = ROOT / "deploy" / "docker"
TIMEOUT = 20_000 * MS


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions and their arguments."""
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def arguments(name: str) -> list[str]:
    return [argument for instruction, argument in instructions() if instruction == name]


def variables() -> dict[str, str]:
    """Return what ENV and ARG set."""
    words = [word for name in ("ENV", "ARG") for each in arguments(name) for word in each.split()]
    return dict(word.split("=", 1) for word in words)


@pytest.fixture
def compose() -> dict[str, Any]:
    text = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


# Dockerfile.


def test_commands_are_programs_and_no_shell_is_between() -> None:
    health = [each[each.index("CMD ") + 4 :] for each in arguments("HEALTHCHECK")]
    commands = [*arguments("RUN"), *arguments("CMD"), *health]

    assert len(commands) >= 4
    for command in commands:
        assert isinstance(json.loads(command), list), command


def test_copied_files_exist_and_are_not_kept_out() -> None:
    allowed = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    sources = [
        source
        for copied in arguments("COPY")
        if not copied.startswith("--from")
        for source in shlex.split(copied)[:-1]
    ]
    assert "src" in sources
    for source in sources:
        path = source.replace("${APP}", variables()["APP"])
        assert (ROOT / path).exists(), path
        assert path.split("/")[0] in allowed, path
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {project["readme"], *project["license-files"]} <= allowed


def test_extras_that_are_installed_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = (match for run in arguments("RUN") for match in re.findall(r"\.\[([\w,]+)\]", run))

    assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_image_serves_the_application_it_has() -> None:
    (command,) = arguments("CMD")

    assert_command_exists(json.loads(command), ROOT / variables()["APP"])
    assert_variables_exist(variables())


def test_container_is_nobody_and_is_stopped_by_sigterm() -> None:
    (user,) = arguments("USER")

    assert int(user.split(":")[0]) > 0
    assert arguments("STOPSIGNAL") == ["SIGTERM"]


async def test_health_check_tells_life_from_death() -> None:
    (check,) = arguments("HEALTHCHECK")
    _, *words = json.loads(check[check.index("CMD ") + 4 :])
    assert arguments("EXPOSE") == [variables()["HUBBUB_PORT"]]

    async def healthy(port: int) -> bool:
        changed = [word.replace(f":{variables()['HUBBUB_PORT']}/", f":{port}/") for word in words]
        assert changed != words
        process = await asyncio.create_subprocess_exec(
            sys.executable, *changed, stderr=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(TIMEOUT):
            return await process.wait() == 0

    async def handler(websocket: ServerConnection) -> None: ...

    async with serve(handler, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await healthy(port)
    assert not await healthy(port)


# compose.yaml.


def nodes(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: service for name, service in compose["services"].items() if name.startswith("hubbub")
    }


def test_nodes_are_built_from_the_dockerfile_and_set_what_exists(compose: dict[str, Any]) -> None:
    assert len(nodes(compose)) == 2
    for service in nodes(compose).values():
        context = (FOLDER / service["build"]["context"]).resolve()
        assert context == ROOT
        assert context / service["build"]["dockerfile"] == FOLDER / "Dockerfile"
        assert_variables_exist(service["environment"])
        assert service["environment"]["HUBBUB_BROKER"].startswith("redis://valkey:")


def test_nodes_have_time_to_stop(compose: dict[str, Any]) -> None:
    drain = float(variables()["HUBBUB_DRAIN"])
    for service in nodes(compose).values():
        assert seconds(service["stop_grace_period"]) > time_to_stop(drain)


def test_services_depend_on_services_and_share_networks(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert set(service.get("depends_on", ())) <= set(compose["services"])
        assert set(service["networks"]) <= set(compose["networks"])
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (FOLDER / source).is_file(), source


def test_caddy_leads_to_all_nodes_and_is_trusted(compose: dict[str, Any]) -> None:
    port = variables()["HUBBUB_PORT"]
    environment = compose["services"]["caddy"]["environment"]
    (inside,) = compose["networks"]["inside"]["ipam"]["config"]

    assert environment["HUBBUB_UPSTREAMS"].split() == [f"{name}:{port}" for name in nodes(compose)]
    configuration = (ROOT / "deploy" / "caddy" / "Caddyfile").read_text(encoding="utf-8")
    for name in environment:
        assert f"{{${name}:" in configuration, name
    for service in nodes(compose).values():
        assert service["environment"]["HUBBUB_TRUSTED_PROXIES"] == inside["subnet"]
        # Whoever is trusted there is of this file: nobody else has the network.
        assert service["networks"] == ["inside"]
        assert "ports" not in service
    assert ipaddress.ip_network(inside["subnet"]).is_private
