"""docker-compose.kafka.yml fits the compose schema, and agrees with settings, commands and topics."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from fleetwatch import topics
from fleetwatch.local.kafka_jars import kafka_version
from fleetwatch.settings import Settings
from tests import compose
from tests.compose import JOBS, MODEL, OURS, READER, ROOT, SERVICES, TEXT

SHELL = {"device", "proxy-setup"}
"""Services of ours that a shell starts."""
PUBLISHED = {"dashboard", "gateway", "prometheus", "grafana", "proxy"}


def each(services: dict[str, dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("service", services.values(), ids=services.keys())


def test_it_fits_the_compose_schema() -> None:
    carrier = importlib.util.find_spec("check_jsonschema")  # it carries the schema; found, not imported
    assert carrier is not None
    assert carrier.submodule_search_locations
    folder = Path(carrier.submodule_search_locations[0])
    schema = json.loads((folder / "builtin_schemas/vendor/compose-spec.json").read_text())
    errors = jsonschema.Draft202012Validator(schema).iter_errors(MODEL)
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_every_part_of_the_system_runs() -> None:
    commands = [service["command"] for service in OURS.values()]
    assert READER.keys() == topics.READ_BY.keys(), "a consumer group has come or gone: name its command here"
    for wanted in READER.values():
        assert any(command[: len(wanted)] == wanted for command in commands), f"nothing runs {wanted}"
    assert {"dashboard", "simulate", "replay-dataset", "migrate", "topics", "schemas", "gateway"} <= OURS.keys()
    assert len({service["image"] for service in OURS.values()}) == 1, "one image for all processes"


def test_the_small_start_is_small_and_each_profile_adds_its_own() -> None:
    small = compose.started()
    assert small == {
        "kafka", "timescaledb", "redis", "topics", "migrate", "worker", "sink-timescale", "sink-redis", "alert",
        "dashboard", "simulate", "replay-dataset",
    }  # fmt: skip
    added = {
        "gateway": {"gateway"},
        "registry": {"schema-registry", "schemas"},
        "monitoring": {"prometheus", "grafana"},
        "proxy": {"proxy-setup", "proxy"},
        "devices": {"device"},
    }
    for profile, names in added.items():
        assert compose.started(profile) - small == names
        assert f"#   {profile} " in TEXT, "the head of the file lists the profiles"
    assert compose.started(*added) == SERVICES.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_waits_for_what_another_profile_would_start(name: str) -> None:
    profiles = SERVICES[name].get("profiles", [])
    for other, how in compose.dependencies(name).items():
        there = set(SERVICES[other].get("profiles", profiles)) <= set(profiles)
        assert how.get("required", True) == (there or not SERVICES[other].get("profiles")), other


@each(SERVICES)
def test_health_is_asked_for_or_the_end_is_waited_for(service: dict[str, Any]) -> None:
    if service.get("healthcheck") == {"disable": True}:
        (name,) = (name for name, other in SERVICES.items() if other is service)
        conditions = [other.get("depends_on", {}).get(name, {}).get("condition") for other in SERVICES.values()]
        assert compose.COMPLETED in conditions
        assert service["restart"] == "on-failure"
    else:
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        assert service["restart"] == "unless-stopped"


@each({name: service for name, service in OURS.items() if name not in JOBS})
def test_our_health_check_asks_where_the_service_listens(service: dict[str, Any]) -> None:
    url = f"http://127.0.0.1:{service['environment']['FLEETWATCH_HTTP_PORT']}/readyz"
    assert url in service["healthcheck"]["test"][-1]


@each(OURS)
def test_our_containers_can_do_nothing_special(service: dict[str, Any]) -> None:
    user, group = service["user"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert any(mount.startswith("/tmp") for mount in service["tmpfs"])


@each(SERVICES)
def test_no_container_can_get_more_than_it_has(service: dict[str, Any]) -> None:
    assert "no-new-privileges:true" in service["security_opt"]
    assert "cap_add" not in service
    assert "privileged" not in service
    name = service["image"].split(":")[0]
    if name in ("apache/kafka", "timescale/timescaledb"):
        return  # the images set up folders of their own when they start
    assert service["cap_drop"] == ["ALL"]
    assert service.get("read_only") is True or name == "apicurio/apicurio-registry"


@each(SERVICES)
def test_every_image_is_pinned(service: dict[str, Any]) -> None:
    if "build" not in service:
        assert re.search(r":v?\d+\.\d+\.\d+[a-z0-9.-]*$", service["image"]), service["image"]


def test_the_base_image_is_pinned_and_the_user_is_not_root() -> None:
    lines = (ROOT / "deploy/Containerfile").read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert bases
    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base) for base in bases)
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users[-1] == OURS["worker"]["user"]
    assert any("--require-hashes" in line for line in lines)


def test_kafka_is_the_one_that_the_tests_run_on() -> None:
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{kafka_version()}"


def test_what_is_published_is_published_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == PUBLISHED
    assert all(compose.interpolated(port).startswith("127.0.0.1:") for ports in published.values() for port in ports)
    opened = {name for name, ports in published.items() for port in ports if not port.startswith("127.0.0.1:")}
    assert opened == {"proxy"}, "only the proxy can be opened to the network"
    assert MODEL["networks"]["inside"] == {"internal": True}
    outside = {name for name, service in SERVICES.items() if "outside" in service["networks"]}
    assert outside == PUBLISHED | {"alert"}, "alert talks to Telegram"


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting_and_fits_it(name: str) -> None:
    given = {name: value for name, value in compose.environment(name).items() if name.startswith("FLEETWATCH_")}
    fields = {name.removeprefix("FLEETWATCH_").lower(): value for name, value in given.items()}
    assert fields.keys() <= Settings.model_fields.keys()
    Settings.model_validate(fields)
    unset = {name for name, value in OURS[name]["environment"].items() if value is None}
    assert {name.removeprefix("FLEETWATCH_").lower() for name in unset} <= Settings.model_fields.keys()


def test_variables_of_the_image_are_settings() -> None:
    used = set(re.findall(r"FLEETWATCH_([A-Z_]+)", (ROOT / "deploy/Containerfile").read_text()))
    assert {name.lower() for name in used} <= Settings.model_fields.keys()


def test_every_variable_of_the_env_file_is_documented_with_its_default() -> None:
    example = (ROOT / "deploy/compose.env.example").read_text()
    used = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", TEXT))
    assert len(used) >= 6
    passed_on = {name for service in OURS.values() for name, value in service["environment"].items() if value is None}
    for name in passed_on:
        assert f"#{name}=" in example
    for name, default in used.items() - {("KAFKA_CLUSTER_ID", used["KAFKA_CLUSTER_ID"])}:
        assert f"\n{name}={default}\n" in example


@pytest.mark.parametrize("name", sorted(OURS.keys() - SHELL))
def test_every_command_exists_with_its_options(name: str) -> None:
    command = compose.command(name)
    result = subprocess.run(
        [sys.executable, "-m", "fleetwatch.cli.main", *command, "--help"],
        capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert command[0] in result.stdout


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fleetwatch-device-1.fleetwatch_inside", "0"),
        ("fleetwatch-device-12.fleetwatch_inside", "11"),
        ("my_fleet_device_3.my_fleet_inside", "2"),
        ("e5a1b2c3d4f6", None),
        ("", None),
    ],
)
def test_a_replica_knows_its_device_by_its_number(tmp_path: Path, name: str, expected: str | None) -> None:
    """The service's own script, with Docker's name server replaced by what it says."""
    fakes = {
        "hostname": "echo 172.18.0.7",
        "getent": f'[ "$1 $2" = "hosts 172.18.0.7" ] && [ -n "{name}" ] && echo "172.18.0.7      {name}"',
        "fleetwatch": 'echo "$DEVICE_ID $*"',
    }
    for program, script in fakes.items():
        (tmp_path / program).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / program).chmod(0o755)
    device = SERVICES["device"]
    result = subprocess.run(
        [*device["entrypoint"], *compose.command("device")],
        env={**compose.environment("device"), "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    if expected is None:
        assert result.returncode == 2
        assert "cannot tell the number" in result.stderr
        return
    assert result.stdout == f"{expected} simulate --scenario demo --devices 1000 --seed 2\n"


def test_volumes_and_dependencies_exist() -> None:
    for name, service in SERVICES.items():
        assert compose.dependencies(name).keys() <= SERVICES.keys()
        for volume in service.get("volumes", []):
            source = compose.interpolated(volume).split(":")[0]
            there = (ROOT / source).exists() if source.startswith("./") else source in MODEL["volumes"]
            assert there, f"{name}: {volume}"
            assert volume.endswith(":ro") or not source.startswith("./"), "nothing of the project is written to"
    for name in ("kafka", "timescaledb", "redis"):
        assert SERVICES[name]["volumes"], f"{name} would forget everything"
    image = (ROOT / "deploy/Containerfile").read_text()
    for service in OURS.values():
        for volume in service.get("volumes", []):
            source, _, target = compose.interpolated(volume).partition(":")
            if not source.startswith("./"):
                assert target in image, f"{target} must be in the image, or its volume would belong to root"


def test_the_configuration_names_what_there_is() -> None:
    """nginx, Prometheus and Grafana look for services and ports of this file."""
    places = (ROOT / "deploy/nginx/places.conf").read_text()
    for place in re.findall(r"default ([a-z-]+:\d+);", places):
        name, port = place.split(":")
        given = compose.environment(name)
        assert port in (given.get("FLEETWATCH_DASHBOARD_PORT"), given.get("FLEETWATCH_GATEWAY_PORT"))
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"][0]
    (found,) = scraped["dns_sd_configs"]
    assert set(found["names"]) == OURS.keys() - JOBS
    assert {compose.environment(name)["FLEETWATCH_HTTP_PORT"] for name in found["names"]} == {str(found["port"])}
    source = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    boards = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/fleetwatch.yml").read_text())
    folder = boards["providers"][0]["options"]["path"]
    assert f"./deploy/grafana/dashboards:{folder}:ro" in SERVICES["grafana"]["volumes"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / "deploy/grafana/dashboards" / Path(home).name).exists()
    assert Path(home).parent == Path(folder)
