from __future__ import annotations

from typing import Any

import pytest

from fleetwatch.local.summary import DELIVERING, Figures


def figures(**changes: Any) -> Figures:
    good: dict[str, Any] = {
        "seconds": 61.23,
        "produced": 1000,
        "scored": 800,
        "replayed_devices_scored": 5,
        "stored": 990,
        "dead_lettered": 10,
        "in_flight": 0,
        "windows_final": 60,
        "alerts_fired": 5,
        "alerts_resolved": 3,
        "faults_injected": 4,
        "faults_alerted": 2,
        "devices": 48,
        "cache_devices": 48,
        "notified": 5,
        "latency_ms": {"scored": {"p50": 1, "p99": 2}},
    }
    return Figures(**good | changes)


def test_a_good_run_falls_short_of_nothing_and_prints_every_figure() -> None:
    summary = figures().as_dict()
    assert figures().shortfalls() == []
    assert list(summary) == [
        "ok", "seconds", "produced", "scored", "stored", "dead_lettered", "in_flight", "unaccounted",
        "windows_final", "alerts_fired", "alerts_resolved", "faults_injected", "faults_alerted", "devices",
        "cache_devices", "notified", "replayed_devices_scored", "latency_ms",
    ]  # fmt: skip
    assert (summary["ok"], summary["unaccounted"], summary["seconds"]) == (True, 0, 61.2)


@pytest.mark.parametrize("name", DELIVERING)
def test_every_stage_must_have_delivered(name: str) -> None:
    run = figures(**{name: 0})
    assert DELIVERING[name] in run.shortfalls()
    assert run.as_dict()["ok"] is False


@pytest.mark.parametrize(
    ("changes", "unaccounted"),
    [
        ({"stored": 989}, 1),  # one is nowhere
        ({"stored": 991}, -1),  # one more than was delivered
        ({"stored": 980, "in_flight": 10}, 0),  # all known, but not through
    ],
)
def test_unaccounted_and_in_flight_must_both_be_zero(changes: dict[str, int], unaccounted: int) -> None:
    run = figures(**changes)
    assert run.unaccounted == unaccounted
    assert len(run.shortfalls()) == 1


def test_of_injected_faults_at_least_one_must_be_alerted() -> None:
    assert figures(faults_alerted=0).shortfalls() == ["none of 4 injected faults was alerted"]
    assert figures(faults_injected=0, faults_alerted=0).shortfalls() == []


def test_troubles_on_the_way_make_a_run_bad() -> None:
    assert figures(troubles=("the output topics were not read",)).as_dict()["ok"] is False


def test_no_dead_letter_and_no_resolved_alert_is_fine() -> None:
    assert figures(stored=1000, dead_lettered=0, alerts_resolved=0).as_dict()["ok"] is True
