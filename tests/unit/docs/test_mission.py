"""docs/mission.md: every row of the mission has a test and a command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

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


def test_every_test_of_the_mission_stands_beside_a_row() -> None:
    named = {row.test.strip("`") for row in rows()}
    there = {f"tests/mission/{path.name}" for path in (ROOT / "tests/mission").glob("test_*.py")}
    assert there <= named
