"""docker-compose.kafka.yml fits the compose schema, and agrees with settings, commands and topics."""

from __future__ import annotations

import importlib.util
import json
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

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.kafka.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
JOBS = {name for name, service in OURS.items() if service.get("healthcheck") == {"disable": True}}
READER = {
    topics.GROUP_STREAMS: ["worker"],
    topics.GROUP_TIMESCALE: ["sink", "timescale"],
    topics.GROUP_REDIS: ["sink", "redis"],
    topics.GROUP_ALERTING: ["alert"],
}
"""Consumer group -> the command whose process is in it."""


def each(services: dict[str, dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("service", services.values(), ids=services.keys())


def test_it_fits_the_compose_schema() -> None:
    carrier = importlib.util.find_spec("check_jsonschema")  # it carries the schema; found, not imported
    assert carrier is not None
    assert carrier.submodule_search_locations
    folder = Path(carrier.submodule_search_locations[0])
    schema = json.loads((folder / "builtin_schemas/vendor/compose-spec.json").read_text())
    errors = jsonschema.Draft202012Validator(schema).iter_errors(COMPOSE)
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_every_part_of_the_system_runs() -> None:
    commands = [service["command"] for service in OURS.values()]
    assert READER.keys() == topics.READ_BY.keys(), "a consumer group has come or gone: name its command here"
    for wanted in READER.values():
        assert any(command[: len(wanted)] == wanted for command in commands), f"nothing runs {wanted}"
    assert {"dashboard", "simulate", "replay-dataset", "migrate", "topics"} <= OURS.keys()


@each(SERVICES)
def test_health_is_asked_for_or_the_end_is_waited_for(service: dict[str, Any]) -> None:
    if service.get("healthcheck") == {"disable": True}:
        (name,) = (name for name, other in SERVICES.items() if other is service)
        conditions = [other.get("depends_on", {}).get(name, {}).get("condition") for other in SERVICES.values()]
        assert "service_completed_successfully" in conditions
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
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    assert any(mount.startswith("/tmp") for mount in service["tmpfs"])


@each(SERVICES)
def test_every_image_is_pinned(service: dict[str, Any]) -> None:
    if "build" not in service:
        assert re.search(r":\d+\.\d+\.\d+[a-z0-9.-]*$", service["image"]), service["image"]


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


def test_only_the_dashboard_is_published_and_only_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"dashboard"}
    assert all(port.startswith("127.0.0.1:") for port in published["dashboard"])
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert all(service["networks"] for service in SERVICES.values())


@each(OURS)
def test_every_variable_is_a_setting_and_fits_it(service: dict[str, Any]) -> None:
    given = {name: value for name, value in service["environment"].items() if name.startswith("FLEETWATCH_")}
    fields = {name.removeprefix("FLEETWATCH_").lower(): value for name, value in given.items()}
    assert fields.keys() <= Settings.model_fields.keys()
    Settings.model_validate({name: _defaults(value) for name, value in fields.items() if value is not None})


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


@pytest.mark.parametrize("name", OURS)
def test_every_command_exists_with_its_options(name: str) -> None:
    command = [_defaults(part) for part in OURS[name]["command"]]
    result = subprocess.run(
        [sys.executable, "-m", "fleetwatch.cli.main", *command, "--help"],
        capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert command[0] in result.stdout


def test_volumes_and_dependencies_exist() -> None:
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= SERVICES.keys()
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= COMPOSE["volumes"].keys()
    for name in ("kafka", "timescaledb", "redis"):
        assert SERVICES[name]["volumes"], f"{name} would forget everything"


def _defaults(value: str) -> str:
    """Return a value with ``${NAME:-default}`` replaced by its default: what compose does without `.env`."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", value)
