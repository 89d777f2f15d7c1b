"""The manifests for Kubernetes: what they name exists, and what they say agrees.

No cluster runs them here.
"""

from typing import Any

import httpx
import pytest
import yaml

from hubbub import ServerConnection, serve
from tests.deploy.settings import assert_command_exists, assert_variables_exist, time_to_stop
from tests.programs import ROOT

MANIFEST = ROOT / "deploy" / "kubernetes" / "hubbub.yaml"


@pytest.fixture(scope="module")
def objects() -> dict[str, dict[str, Any]]:
    documents = list(yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")))
    assert len({document["kind"] for document in documents}) == len(documents)
    return {document["kind"]: document for document in documents}


@pytest.fixture(scope="module")
def pod(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod["containers"]
    assert isinstance(found, dict)
    return found


def environment(container: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each.get("value") for each in container["env"]}


def test_command_and_variables_exist(container: dict[str, Any]) -> None:
    assert_command_exists(container["args"], ROOT / "examples" / "chat")
    assert_variables_exist(environment(container))


def test_broker_comes_from_the_secret_that_the_comment_makes(container: dict[str, Any]) -> None:
    (broker,) = (each for each in container["env"] if each["name"] == "HUBBUB_BROKER")
    secret = broker["valueFrom"]["secretKeyRef"]
    text = MANIFEST.read_text(encoding="utf-8")

    made = f"kubectl create secret generic {secret['name']} --from-literal={secret['key']}=redis://"
    assert made in text


def test_grace_period_is_longer_than_all_that_happens_in_it(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    program, pause = container["lifecycle"]["preStop"]["exec"]["command"]
    drain = float(environment(container)["HUBBUB_DRAIN"])
    readiness = container["readinessProbe"]

    assert program == "sleep"
    assert pod["terminationGracePeriodSeconds"] > float(pause) + time_to_stop(drain)
    # It is not ready long before its last clients are sent away.
    assert readiness["periodSeconds"] * readiness["failureThreshold"] < drain


async def test_probes_ask_what_a_server_answers(container: dict[str, Any]) -> None:
    async def handler(websocket: ServerConnection) -> None: ...

    paths = {
        probe: container[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    async with serve(handler, "127.0.0.1", 0) as server, httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert {(await client.get(url + path)).status_code for path in paths.values()} == {200}
        server.withdraw()
        answers = {
            probe: (await client.get(url + path)).status_code for probe, path in paths.items()
        }

    # Who drains gets no clients, and is not restarted for it.
    assert answers == {"startupProbe": 200, "readinessProbe": 503, "livenessProbe": 200}


def test_ports_are_one_port_by_one_name(
    objects: dict[str, dict[str, Any]], container: dict[str, Any]
) -> None:
    (port,) = container["ports"]
    (service_port,) = objects["Service"]["spec"]["ports"]

    assert str(port["containerPort"]) == environment(container)["HUBBUB_PORT"]
    assert service_port["targetPort"] == port["name"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == port["name"]


def test_objects_are_about_the_same_pods(objects: dict[str, dict[str, Any]]) -> None:
    deployment = objects["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]

    assert deployment["selector"]["matchLabels"] == labels
    assert objects["Service"]["spec"]["selector"] == labels
    assert objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    scaled = objects["HorizontalPodAutoscaler"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == objects["Deployment"]["metadata"]["name"]
    # Both must be able to let one go.
    assert objects["PodDisruptionBudget"]["spec"]["maxUnavailable"] < deployment["replicas"]
    assert scaled["minReplicas"] >= deployment["replicas"]


def test_pod_is_confined_and_writes_only_where_it_may(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
