from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from fleetwatch.cli.main import build_app
from fleetwatch.errors import EnvironmentProblemError
from streams.replay.compare import Opening, Results, Truth, compare, load, openings, quality_of
from streams.replay.report import html

if TYPE_CHECKING:
    from pathlib import Path

START = 1_790_000_000_000


def opening(at_s: float = 0, *, device: str = "press-1", **changes: Any) -> Opening:
    started = START + round(at_s * 1000)
    fields: dict[str, Any] = {
        "alert_id": f"{changes.get('rule', 'hot')}/{device}/{started}",
        "rule": "hot",
        "severity": "WARNING",
        "ended_ms": started + 5000,
        "value": 1.0,
    }
    return Opening(device_id=device, started_ms=started, **(fields | changes))


def results(*alerts: Opening, truths: tuple[Truth, ...] = (), **feedback: bool) -> Results:
    return Results("r", alerts, truths, feedback)


CASES: dict[str, tuple[list[Opening], list[Opening], list[str]]] = {
    "nothing at all": ([], [], []),
    "the same": ([opening(1)], [opening(1)], []),
    # a value is evidence, not a difference
    "another value": ([opening(1)], [opening(1, value=7.0)], []),
    "one more": ([opening(1)], [opening(1), opening(200)], ["appeared"]),
    "one less": ([opening(1), opening(200)], [opening(200)], ["vanished"]),
    "earlier": ([opening(10)], [opening(4)], ["earlier", "ended"]),
    "later, same end": ([opening(10, ended_ms=START)], [opening(11, ended_ms=START)], ["later"]),
    # the nearest of one rule and device is the same alert, but not beyond a minute
    "too far": ([opening(0)], [opening(61)], ["vanished", "appeared"]),
    "another device": ([opening(0)], [opening(0, device="press-2")], ["vanished", "appeared"]),
    "another rule": ([opening(0)], [opening(0, rule="cold")], ["appeared", "vanished"]),
    "more severe": ([opening(1)], [opening(1, severity="CRITICAL")], ["severity"]),
    "still open": ([opening(1)], [opening(1, ended_ms=None)], ["ended"]),
    # 0 s and 10 s, then 9 s: the nearer of the two is the one that moved
    "the nearest first": (
        [opening(0, ended_ms=None), opening(10, ended_ms=None)],
        [opening(9, ended_ms=None)],
        ["vanished", "earlier"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_differences(name: str):
    left, right, kinds = CASES[name]
    found = compare(results(*left), results(*right))
    assert [one.kind for one in found.differences] == kinds


def test_comparing_the_other_way_round_mirrors_it():
    mirrored = {"appeared": "vanished", "vanished": "appeared", "earlier": "later", "later": "earlier"}
    for left, right, _ in CASES.values():
        there = compare(results(*left), results(*right)).differences
        back = compare(results(*right), results(*left)).differences
        assert sorted(mirrored.get(one.kind, one.kind) for one in there) == sorted(one.kind for one in back)


def test_precision_and_recall():
    """Two faults of press-1, one found by two alerts; one alert elsewhere: 2 of 3 alerts, 1 of 2 faults."""
    truths = (
        Truth("a", "press-1", START, START + 10_000),
        Truth("b", "press-1", START + 100_000, START + 110_000),
    )
    alerts = (opening(1), opening(9), opening(1, device="press-2"))
    quality = quality_of(alerts, truths, {alerts[0].alert_id: True, alerts[2].alert_id: False, "unknown": False})
    assert (quality.precision, quality.recall) == (2 / 3, 1 / 2)
    assert quality.precision_by_feedback == 1 / 2


def test_nothing_known_is_no_number():
    """No truth is not "all wrong"; truth without any alert is a recall of 0, and no precision."""
    assert quality_of([opening(1)], (), {}).precision is None
    assert quality_of([opening(1)], (), {}).recall is None
    quality = quality_of([], (Truth("a", "d", 0, 1),), {})
    assert (quality.precision, quality.recall) == (None, 0.0)


def test_an_alert_that_never_ended_overlaps_what_comes():
    truth = Truth("a", "press-1", START + 50_000, START + 60_000)
    assert quality_of([opening(0, ended_ms=None)], (truth,), {}).recall == 1.0
    assert quality_of([opening(0)], (truth,), {}).recall == 0.0


def change(state: str, **changes: Any) -> dict[str, Any]:
    fields = {
        "alert_id": "a",
        "rule": "hot",
        "device_id": "press-<1>",
        "severity": "WARNING",
        "state": state,
        "started_at": "2026-01-01T00:00:00.000Z",
        "ended_at": None if state == "FIRING" else "2026-01-01T00:00:05.000Z",
        "value": 3.0 if state == "FIRING" else 1.0,
    }
    return fields | changes


def test_firing_and_resolved_are_one_opening_with_the_value_that_fired():
    (found,) = openings([change("FIRING"), change("RESOLVED")])
    assert found.ended_ms == found.started_ms + 5000
    assert found.value == 3.0


def write(folder: Path, *changes: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "results.json").write_text("{}")
    (folder / "alerts.jsonl").write_text("".join(json.dumps(item) + "\n" for item in changes))
    return folder


def test_the_command_says_it_as_table_json_html_and_exit_code(tmp_path: Path):
    left = write(tmp_path / "a", change("FIRING"), change("RESOLVED"))
    right = write(tmp_path / "b", change("FIRING", severity="CRITICAL"))
    call = CliRunner().invoke
    same = call(build_app(), ["compare", str(left), str(left), "--fail-on-diff"])
    assert same.exit_code == 0
    assert "1 alerts are the same; no difference" in same.output
    page = tmp_path / "page.html"
    found = call(build_app(), ["compare", str(left), str(right), "--html", str(page), "--json"])
    assert found.exit_code == 0
    facts = json.loads(found.output)
    assert (facts["differences"]["severity"], facts["differences"]["ended"], facts["same"]) == (1, 1, 0)
    assert call(build_app(), ["compare", str(left), str(right), "--fail-on-diff"]).exit_code == 1
    text = page.read_text()
    assert "press-&lt;1&gt;" in text
    assert "press-<1>" not in text
    assert text.count("<svg") == 3


def test_a_page_of_nothing_says_so():
    assert html(compare(results(), results())).count("There are no alerts.") == 3


def test_a_folder_that_is_none_and_a_damaged_line_are_named(tmp_path: Path):
    with pytest.raises(EnvironmentProblemError, match="holds no results"):
        load(tmp_path)
    folder = write(tmp_path / "a", change("FIRING"))
    with (folder / "alerts.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(EnvironmentProblemError, match=r"alerts.jsonl, line 2: it has no alert_id"):
        load(folder)
