from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from fleetwatch.local.live_table import Row, View, as_line, as_table, duration
from fleetwatch.local.plan import Role, Spec
from fleetwatch.local.processes import Child, Phase
from fleetwatch.local.status_page import Seen, parse
from fleetwatch.local.watch import doing_of, health_of

if TYPE_CHECKING:
    from pathlib import Path

VIEW = View(
    rows=(
        Row(name="worker", health="ready", doing="scoring [bold]", uptime_seconds=75.0, lag=1234),
        Row(name="sink-redis", health="starts again in 2 s", doing="", restarts=3),
        Row(name="simulate", health="ready", doing="producing 300 events/s", uptime_seconds=12.0),
    ),
    totals={"produced": 12_345, "scored": 12_000},
    notices=tuple(f"notice {n}" for n in range(20)),
    dashboard="http://127.0.0.1:8501",
    gateway="http://127.0.0.1:8080",
    logs="/state/logs",
    seconds=3700,
)


def test_the_table_says_for_each_process_how_it_is_and_shows_the_last_notices() -> None:
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    console.print(as_table(VIEW))
    console.file.close()
    text = console.export_text()
    worker, sink, simulate = (line.split("│")[1:-1] for line in text.splitlines() if "│" in line)
    assert [cell.strip() for cell in worker] == ["worker", "scoring [bold]", "ready", "1:15", "1,234", ""]
    assert [cell.strip() for cell in sink] == ["sink-redis", "", "starts again in 2 s", "", "", "3"]
    assert [cell.strip() for cell in simulate][3:] == ["12 s", "", ""]
    places = ("http://127.0.0.1:8501", "POST http://127.0.0.1:8080/v1/readings", "/state/logs")
    for part in ("produced 12,345", *places, "notice 19"):
        assert part in text
    assert "notice 13" not in text


def test_the_line_names_lags_and_who_is_unwell() -> None:
    assert as_line(VIEW) == (
        "1:01:40 | produced 12,345  scored 12,000 | lag: worker 1234 | sink-redis starts again in 2 s"
    )


@pytest.mark.parametrize(("seconds", "text"), [(0.9, "0 s"), (59, "59 s"), (60, "1:00"), (3723, "1:02:03")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def child_in(tmp_path: Path, phase: Phase, seen: Seen | None = None) -> Child:
    child = Child(Spec(name="x", role=Role.SINK, arguments=()), env={}, logs=tmp_path)
    child.phase, child.seen, child.next_start_at = phase, seen, 103.0
    return child


@pytest.mark.parametrize(
    ("phase", "seen", "health", "doing"),
    [
        (Phase.RUNNING, None, "starting", "starting"),
        (Phase.RUNNING, Seen(at=99, ready=True, doing="writing"), "ready", "writing"),
        (Phase.RUNNING, Seen(at=99, ready=False, doing="joining"), "starting", "joining"),
        (Phase.RUNNING, Seen(at=99, ready=True, doing="writing", problem="no database"), "problem", "no database"),
        (Phase.RUNNING, Seen(at=90, ready=True, doing="writing"), "no answer", "writing"),
        (Phase.BACKING_OFF, None, "starts again in 3 s", ""),
        (Phase.FINISHED, None, "finished", ""),
        (Phase.WAITING, None, "waiting", ""),
    ],
)
def test_health_comes_from_the_process_table_first_and_from_its_own_words_then(
    tmp_path: Path, phase: Phase, seen: Seen | None, health: str, doing: str
) -> None:
    child = child_in(tmp_path, phase, seen)
    assert (health_of(child, now=100.0), doing_of(child)) == (health, doing)


def test_a_status_page_is_read_and_nonsense_is_not() -> None:
    page = b'{"service": "w", "ready": true, "doing": "d", "problem": "", "counters": {"a": 3}, "uptime_seconds": 1.5}'
    assert parse(page, now=7.0) == Seen(at=7.0, ready=True, doing="d", counters={"a": 3})
    for nonsense in (b"", b"ready", b"[]", b"3", b'{"ready": true}', page.replace(b'{"a": 3}', b"[1]")):
        assert parse(nonsense, now=7.0) is None
