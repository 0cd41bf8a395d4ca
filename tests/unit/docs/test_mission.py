"""docs/mission.md: every row of the mission has a test and a command."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path
from typing import Final, NamedTuple

import pytest
import typer
import yaml

from fleetwatch.cli.main import build_app
from fleetwatch.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
ROWS: Final = (
    "Live dashboard",
    "Hebrew and right to left",
    "Telegram bot",
    "Ingestion API",
    "Vision",
    "Model registry",
    "Pruning of inactive devices",
    "Redis persistence",
    "Priority alerts",
    "Docker Compose",
    "Kubernetes",
    "Prometheus and Grafana",
    "TLS and proxy",
    "48 hours",
)


class Row(NamedTuple):
    name: str
    works: str
    test: str
    by_hand: str


def rows() -> list[Row]:
    lines = (ROOT / "docs/mission.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return [Row(*cell) for cell in cells[1:] if set(cell[0]) != {"-"}]


def test_every_row_of_the_mission_has_a_line_a_test_and_a_command() -> None:
    assert tuple(row.name for row in rows()) == ROWS
    for row in rows():
        assert row.works
        assert re.fullmatch(r"`tests/mission/test_\w+\.py`", row.test), row
        assert re.search(r"`[^`]+`", row.by_hand), row


def test_every_row_has_its_test_and_every_test_its_row() -> None:
    named = {row.test.strip("`") for row in rows()}
    there = {f"tests/mission/{path.name}" for path in (ROOT / "tests/mission").glob("test_*.py")}
    assert named == there


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_every_command_to_see_it_by_hand_exists(row: Row) -> None:
    commands = [words for code in re.findall(r"`([^`]+)`", row.by_hand) if (words := shlex.split(code)) != ["curl"]]
    assert any(does_exist(words) for words in commands)
    for words in commands:
        assert does_exist(words), words


def does_exist(words: list[str]) -> bool:
    """Whether a command line of the table can be typed: its settings, its program, and the files it names."""
    while "=" in words[0]:
        name = words.pop(0).partition("=")[0]
        assert not name.startswith("FLEETWATCH_") or name.removeprefix("FLEETWATCH_").lower() in Settings.model_fields
    match words:
        case ["make", target, *_]:
            return f"\n{target}:" in (ROOT / "Makefile").read_text()
        case ["docker", "compose", "-f", file, *options]:
            services = yaml.safe_load((ROOT / file).read_text())["services"].values()
            profiles = {profile for service in services for profile in service.get("profiles", ())}
            return {name for flag, name in itertools.pairwise(options) if flag == "--profile"} <= profiles
        case ["kubectl", "apply", "-k", folder]:
            return (ROOT / folder / "kustomization.yaml").exists()
        case ["python", "-m", module]:
            return (ROOT / module.replace(".", "/")).with_suffix(".py").exists()
        case ["fleetwatch", *rest]:
            return is_command(rest)
    return is_command(words)


def is_command(words: list[str]) -> bool:
    """Whether this is a command of ours, with or without arguments."""
    command: object = typer.main.get_command(build_app())
    for word in words:
        children = getattr(command, "commands", None)
        if not children:
            return True
        if word not in children:
            return False
        command = children[word]
    return not getattr(command, "commands", None)
