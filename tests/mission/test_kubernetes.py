"""deploy/kubernetes: valid for every version of Kubernetes that is about, whole, locked down, and its pods do start.

There is no cluster in the tests. The resources are put together as kustomize would (tests/kustomize.py, compared with
kubectl where there is one), and containers run as processes with what the ConfigMap and the Secrets would give them.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import redis
import yaml
from typer.testing import CliRunner

from fleetwatch.cli.main import build_app
from fleetwatch.local.ports import free_port
from fleetwatch.settings import Settings
from tests import compose, kustomize, processes
from tests.compose import READER, ROOT
from tests.services import find_program, wait_until

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = ROOT / "deploy/kubernetes"
WAYS = {"k3s": FOLDER, "strimzi": FOLDER / "strimzi", "cloud": FOLDER / "cloud"}
BUILT = {name: kustomize.build(folder) for name, folder in WAYS.items()}
OLDEST = "1.28"
"""The label that numbers a StatefulSet's pods came with it."""
FOREIGN = {
    ("traefik.io/v1alpha1", "Middleware"),
    ("kafka.strimzi.io/v1", "Kafka"),
    ("kafka.strimzi.io/v1", "KafkaNodePool"),
    ("cert-manager.io/v1", "Issuer"),
}
"""Kinds that others bring: their schemas are not Kubernetes'."""
SECRET_DIR = "/etc/fleetwatch/secrets"
each_way = pytest.mark.parametrize("objects", BUILT.values(), ids=BUILT.keys())


def named(objects: list[kustomize.Object], kind: str) -> dict[str, kustomize.Object]:
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == kind}


def ours(objects: list[kustomize.Object]) -> dict[str, kustomize.Object]:
    found = kustomize.pods(objects)
    return {
        name: pod
        for name, pod in found.items()
        if pod["metadata"]["labels"].get("app.kubernetes.io/part-of") == "fleetwatch"
    }


def secrets(**variables: str) -> dict[str, dict[str, str]]:
    """Secret -> key -> value, as secrets.sh makes them."""
    find_program("openssl", package="openssl")
    done = subprocess.run(
        [str(FOLDER / "secrets.sh")], env={"PATH": os.environ["PATH"], "DASHBOARD_PASSWORD": "pass word"} | variables,
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    made = [one for one in yaml.safe_load_all(done.stdout) if one["kind"] == "Secret"]
    for one in made:
        kubernetes_validate.validate(one, OLDEST, strict=True)
        assert one["metadata"]["namespace"] == "fleetwatch"
    return {
        one["metadata"]["name"]: {key: base64.b64decode(value).decode() for key, value in one["data"].items()}
        for one in made
    }


# --- the resources


@each_way
@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
def test_every_resource_fits_its_schema(objects: list[kustomize.Object], version: str) -> None:
    foreign = set()
    for one in objects:
        try:
            kubernetes_validate.validate(one, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            foreign.add((one["apiVersion"], one["kind"]))
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "fleetwatch"
    assert foreign <= FOREIGN


def test_no_file_is_forgotten() -> None:
    used: set[Path] = set()
    for folder in WAYS.values():
        kustomize.build(folder, used)
    assert used == {path.resolve() for path in FOLDER.rglob("*.yaml")}


@pytest.mark.parametrize("way", WAYS)
def test_kubectl_puts_the_same_together(way: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl on this machine: no Debian package of today has one that is new enough")
    done = subprocess.run(
        [kubectl, "kustomize", str(WAYS[way])], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    text = re.sub(r"\bfleetwatch-[0-9a-z]{10}$", "fleetwatch", done.stdout, flags=re.MULTILINE)

    def by_name(objects: list[kustomize.Object]) -> dict[str, Any]:
        return {f"{one['kind']} {one['metadata']['name']}": in_order(one) for one in objects}

    def in_order(value: Any) -> Any:
        """Lists of things with a name in the order of their names: a merge may put them anywhere."""
        if isinstance(value, dict):
            return {key: in_order(one) for key, one in value.items()}
        if isinstance(value, list):
            return sorted((in_order(one) for one in value), key=lambda one: json.dumps(one, sort_keys=True))
        return value

    assert by_name(list(yaml.safe_load_all(text))) == by_name(BUILT[way])


@each_way
def test_config_secrets_and_claims_that_pods_ask_for_are_there(objects: list[kustomize.Object]) -> None:
    made = secrets(TELEGRAM_TOKEN="t", TELEGRAM_CHAT_IDS="[1]", TELEGRAM_USER_IDS="[2]")
    claims = named(objects, "PersistentVolumeClaim")
    for pod in kustomize.pods(objects).values():
        for volume in pod["spec"].get("volumes", []):
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
            if "secret" in volume:
                assert {item["key"] for item in volume["secret"]["items"]} <= made[
                    volume["secret"]["secretName"]
                ].keys()
    for container in kustomize.containers(objects):
        for source in container.get("envFrom", []):
            assert source["configMapRef"]["name"] in named(objects, "ConfigMap")
        for variable in container.get("env", []):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                reference = variable["valueFrom"]["secretKeyRef"]
                assert reference["key"] in made[reference["name"]]
    for claimed in (*claims.values(), *stores_claims(objects)):
        assert claimed["spec"]["resources"]["requests"]["storage"]


@each_way
def test_services_lead_to_pods(objects: list[kustomize.Object]) -> None:
    services = named(objects, "Service")
    for service in services.values():
        wanted = service["spec"]["selector"].items()
        (pod,) = (pod for pod in kustomize.pods(objects).values() if wanted <= pod["metadata"]["labels"].items())
        ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for one in objects:
        if one["kind"] == "StatefulSet":
            assert one["spec"]["serviceName"] in services
        if one["kind"] in ("StatefulSet", "Deployment"):
            labels = one["spec"]["template"]["metadata"]["labels"]
            assert one["spec"]["selector"]["matchLabels"].items() <= labels.items()


def stores_claims(objects: list[kustomize.Object]) -> list[kustomize.Object]:
    sets = named(objects, "StatefulSet")
    stores = {"timescaledb", "redis"} | ({"kafka"} & sets.keys())
    assert stores <= sets.keys()
    return [claim for name in sorted(stores) for claim in sets[name]["spec"]["volumeClaimTemplates"]]


@each_way
def test_the_ingress_leads_to_dashboard_and_gateway(objects: list[kustomize.Object]) -> None:
    services, middlewares, made = named(objects, "Service"), named(objects, "Middleware"), secrets()
    seen = set()
    for name, ingress in named(objects, "Ingress").items():
        assert ingress["spec"]["ingressClassName"] == "traefik"
        used = ingress["metadata"]["annotations"]["traefik.ingress.kubernetes.io/router.middlewares"].split(",")
        for middleware in used:
            assert middleware.removeprefix("fleetwatch-").removesuffix("@kubernetescrd") in middlewares
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                ports = {port["name"] for port in services[backend["name"]]["spec"]["ports"]}
                assert backend["port"]["name"] in ports
                seen.add((path["path"], backend["name"], name))
                if backend["name"] == "dashboard" and name != "to-https":
                    assert "fleetwatch-sign-in@kubernetescrd" in used, "never open"
    assert {("/", "dashboard", "dashboard"), ("/v1/", "gateway", "gateway")} <= seen
    assert made[middlewares["sign-in"]["spec"]["basicAuth"]["secret"]]["users"].startswith("fleetwatch:$apr1$")


# --- the pods


@each_way
def test_no_pod_can_do_anything_special(objects: list[kustomize.Object]) -> None:
    """The rules of the restricted pod security standard, which the namespace enforces."""
    labels = named(objects, "Namespace")["fleetwatch"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    mine = ours(objects)
    for name, pod in kustomize.pods(objects).items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert not [volume for volume in spec.get("volumes", []) if "hostPath" in volume]
        for container in (*spec.get("initContainers", []), *spec["containers"]):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context.get("readOnlyRootFilesystem") is True or name in ("kafka", "timescaledb")
            assert container["resources"].keys() == {"requests", "limits"}
            assert "memory" in container["resources"]["limits"]
        if name in mine:
            assert spec["securityContext"]["runAsUser"] == int(compose.OURS["worker"]["user"].split(":")[0])


@each_way
def test_every_pod_is_asked_for_its_health(objects: list[kustomize.Object]) -> None:
    for name, pod in kustomize.pods(objects).items():
        (container,) = pod["spec"]["containers"]
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
        if name not in ours(objects):
            continue
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert str(ports["health"]) == environment(objects, container)["FLEETWATCH_HTTP_PORT"]
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}
        assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
        assert pod["metadata"]["annotations"]["prometheus.io/port"] == str(ports["health"])


def environment(objects: list[kustomize.Object], container: kustomize.Object, index: str = "0") -> dict[str, str]:
    """Variables of a container; ``index`` is the number of its pod."""
    config = named(objects, "ConfigMap")
    given: dict[str, str] = {}
    for source in container.get("envFrom", []):
        given |= config[source["configMapRef"]["name"]]["data"]
    for variable in container.get("env", []):
        if "value" in variable:
            given[variable["name"]] = variable["value"]
        else:
            assert variable["valueFrom"] == {
                "fieldRef": {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}
            }, variable
            given[variable["name"]] = index
    return given


@each_way
def test_variables_and_secrets_are_settings_and_fit_them(objects: list[kustomize.Object]) -> None:
    made = secrets(TELEGRAM_TOKEN="t", TELEGRAM_CHAT_IDS="[1]", TELEGRAM_USER_IDS="[2]")["fleetwatch"]
    for name, pod in ours(objects).items():
        (container,) = pod["spec"]["containers"]
        given = {key: value for key, value in environment(objects, container).items() if key.startswith("FLEETWATCH_")}
        has_secrets = given.pop("FLEETWATCH_SECRETS_DIR", None)
        mounted = [volume for volume in pod["spec"]["volumes"] if "secret" in volume]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert bool(mounted) == (has_secrets is not None)
        for volume in mounted:
            assert mounts[volume["name"]] == has_secrets == SECRET_DIR
            assert {item["path"] for item in volume["secret"]["items"]} == {
                item["key"] for item in volume["secret"]["items"]
            }
            given |= {item["key"].upper(): made[item["key"]] for item in volume["secret"]["items"]}
        fields: dict[str, Any] = {key.removeprefix("FLEETWATCH_").lower(): value for key, value in given.items()}
        assert fields.keys() <= Settings.model_fields.keys(), name
        for name_of_list in {"telegram_chat_ids", "telegram_user_ids"} & fields.keys():
            fields[name_of_list] = json.loads(fields[name_of_list])
        Settings.model_validate(fields)


def test_every_part_of_the_system_runs_and_its_command_exists() -> None:
    found = {name: pod["spec"]["containers"][0] for name, pod in ours(BUILT["k3s"]).items()}
    commands = [container["args"] for container in found.values()]
    for wanted in (*READER.values(), ["dashboard"], ["gateway"], ["simulate"]):
        assert any(command[: len(wanted)] == wanted for command in commands), f"nothing runs {wanted}"
    images = {container["image"] for container in kustomize.containers(BUILT["k3s"])}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    others = {compose.SERVICES[name]["image"] for name in ("kafka", "timescaledb", "redis")}
    assert images == others | {f"fleetwatch:{version}"}, "the same images as on Compose"
    for name, container in found.items():
        done = CliRunner().invoke(build_app(), [*container["args"], "--help"])
        assert done.exit_code == 0, f"{name}: {done.output}"


def test_each_simulator_pod_is_another_device() -> None:
    simulator = named(BUILT["k3s"], "StatefulSet")["simulator"]
    (container,) = simulator["spec"]["template"]["spec"]["containers"]
    assert simulator["spec"]["podManagementPolicy"] == "Parallel"
    devices = []
    for index in ("0", "1", "4", "500"):
        given = environment(BUILT["k3s"], container, index)
        arguments = [*container["args"], "--dry-run", "--for", "5"]
        printed = CliRunner().invoke(build_app(), arguments, env={"DEVICE_ID": given["DEVICE_ID"]}).stdout
        rows = [json.loads(line) for line in printed.splitlines()]
        devices.append({row.get("device_id") or row.get("camera_id") for row in rows if "fault_id" not in row})
    assert [len(found) for found in devices] == [1, 1, 1, 1]
    assert len(set.union(*devices)) == 4


def test_the_secrets_are_new_each_time_and_fit_together() -> None:
    one, other = secrets(), secrets()
    stores = one["fleetwatch-stores"]
    assert stores != other["fleetwatch-stores"]
    assert len(stores["postgres_password"]) >= 32
    assert one["fleetwatch"]["fleetwatch_database_url"] == (
        f"postgresql://postgres:{stores['postgres_password']}@timescaledb:5432/fleetwatch"
    )
    assert one["fleetwatch"]["fleetwatch_redis_url"] == f"redis://:{stores['redis_password']}@redis:6379/0"
    assert "pass word" not in json.dumps(one)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        secrets(DASHBOARD_PASSWORD="")
    assert refused.value.returncode == 2
    assert "set DASHBOARD_PASSWORD" in refused.value.stderr


@pytest.mark.integration
def test_pods_start_with_what_the_cluster_would_give_them(settings: Settings, redis_url: str, tmp_path: Path) -> None:
    """The camera of one simulator pod reaches the cache, and the probes of both pods answer."""
    objects = BUILT["k3s"]
    pods = {"simulator": ours(objects)["simulator"], "sink-redis": ours(objects)["sink-redis"]}
    made = secrets()["fleetwatch"] | {"fleetwatch_redis_url": redis_url}
    commands, environments = {}, {}
    for name, pod in pods.items():
        (container,) = pod["spec"]["containers"]
        given = environment(objects, container, index="4")
        assert given["FLEETWATCH_BOOTSTRAP_SERVERS"] == "kafka:9092"
        given |= {
            "FLEETWATCH_BOOTSTRAP_SERVERS": settings.bootstrap_servers, "FLEETWATCH_EMBEDDED_BROKER": "true",
            "FLEETWATCH_PARTITIONS": "4", "FLEETWATCH_HTTP_HOST": "127.0.0.1", "FLEETWATCH_HTTP_PORT": str(free_port()),
        }  # fmt: skip
        for volume in pod["spec"]["volumes"]:
            if "secret" in volume:
                folder = tmp_path / f"secrets-{name}"
                folder.mkdir()
                for item in volume["secret"]["items"]:
                    (folder / item["path"]).write_text(made[item["key"]])
                given["FLEETWATCH_SECRETS_DIR"] = str(folder)
        commands[name], environments[name] = container["args"], os.environ | given
    (prepare,) = pods["sink-redis"]["spec"]["initContainers"]
    kernels = tmp_path / "kernels"
    kernels.mkdir()
    script = (
        prepare["command"][-1]
        .replace("/var/cache/fleetwatch/.", f"{ROOT}/schemas/.")
        .replace("/kernels/", f"{kernels}/")
    )
    (tmp_path / "fleetwatch").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fleetwatch.cli.main "$@"\n')
    (tmp_path / "fleetwatch").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(
        [*prepare["command"][:-1], script], env=environments["simulator"] | {"PATH": path}, timeout=60, check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert list(kernels.iterdir()), "what was compiled ahead was copied"
    with processes.running(commands, environments, tmp_path) as started, redis.Redis.from_url(redis_url) as cache:
        for name, process in started.items():
            process.wait_until_ready()
            (container,) = pods[name]["spec"]["containers"]
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert process.get(container[probe]["httpGet"]["path"])[0] == 200
        wait_until(lambda: any(b"cam-01" in key for key in cache.keys("*")), what="the camera's events in the cache")
