"""The Alerts, Models and Pipeline pages' pieces: order, bounds, words for every enum, and nothing unescaped."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from dashboard import alert_views, camera_views, markup, model_views, pipeline_views
from dashboard.attention import Status
from dashboard.event_reads import LabelBin, PastAlert, PastAlerts, RefusalCount, SightingRow, Sightings
from dashboard.flow import Health
from dashboard.live import Arrival, Board, fold
from dashboard.notes import Note, Notes, fold_notes
from dashboard.watch import Seen
from fleetwatch import i18n, topics
from fleetwatch.records import AlertState, Metric, ModelStatus, Reason, RuleKind, Severity, Stage
from tests.unit.dashboard.factories import (
    NOW,
    NOW_MS,
    acknowledgement,
    alert,
    comparison,
    dead_letter,
    detection,
    look,
    model,
)

EN, HE = (i18n.texts("dashboard", language) for language in ("en", "he"))
HOSTILE = "<img src=x onerror=alert(1)>\"'&"


def board_of(*events):
    return fold(Board(), [Arrival(event, NOW_MS) for event in events])


def past(alert_id="p", **changes):
    values = {
        "alert_id": alert_id, "rule": "too-hot", "kind": RuleKind.LEVEL, "device_id": "pump-1", "site": "north",
        "severity": Severity.CRITICAL, "state": AlertState.RESOLVED, "started_at": NOW,
        "ended_at": NOW + timedelta(minutes=3), "value": 91.25, "threshold": 80.0, "summary": "too hot",
        "acknowledged_by": "Dana", "acknowledged_at": NOW,
    }  # fmt: skip
    return PastAlert(**(values | changes))


@pytest.mark.parametrize("say", [EN, HE])
def test_every_value_of_an_enum_that_is_shown_has_a_word(say):
    for kind, values in {
        "severity": Severity, "status": Status, "alert": RuleKind, "models": ModelStatus, "reason": Reason,
        "stage": Stage, "health": Health,
    }.items():  # fmt: skip
        for value in values:
            assert say.has(f"{kind}.{value.name}")
    for group in topics.READ_BY:
        assert say.has(f"group.{group}")


def test_open_alerts_that_nobody_took_come_first_then_the_gravest_then_the_newest():
    board = board_of(
        alert("taken", severity=Severity.CRITICAL),
        alert("old", at=NOW - timedelta(minutes=5)),
        alert("new"),
        alert("grave", severity=Severity.CRITICAL, at=NOW - timedelta(hours=1)),
        alert("fan", device_id="fan-1", severity=Severity.INFO),
        acknowledgement("taken"),
    )
    taken = alert_views.acknowledged(board, {"new": acknowledgement("new", who="me")})
    assert {name: action.who for name, action in taken.items()} == {"taken": "Dana", "new": "me"}
    shown = alert_views.open_alerts(board, {"taken"}, ())
    assert [one.alert_id for one in shown] == ["grave", "new", "old", "fan", "taken"]
    assert [one.alert_id for one in alert_views.open_alerts(board, (), {Severity.INFO})] == ["fan"]
    assert [one.alert_id for one in alert_views.open_alerts(board, (), (), "FAN")] == ["fan"]


def test_an_open_alert_shows_value_against_limit_and_who_took_it():
    html = alert_views.open_html(alert("a"), None, EN, now_ms=NOW_MS + 180_000)
    for text in ("value 91.25, limit 80", "3 min ago", "Warning", 'data-acknowledged="no"', "above 80 for 10 s"):
        assert text in html
    html = alert_views.open_html(alert("a"), acknowledgement("a"), EN, now_ms=NOW_MS + 60_000)
    assert "acknowledged by Dana, 1 min ago" in html
    assert 'data-acknowledged="yes"' in html


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (RuleKind.ANOMALY, "value 250, unusual for this device"),
        (RuleKind.SURGE, "250 counted, unusual for this camera"),
        (RuleKind.DRIFT, "value 250, the usual behaviour has changed"),
        (RuleKind.LEVEL, "value 250, limit 200"),
        (RuleKind.COUNT, "250 in one window, limit 200"),
        (RuleKind.SILENCE, "silent for 250 s, limit 200 s"),
    ],
)
def test_facts_say_what_was_compared(kind, text):
    assert alert_views.facts(kind, 250.0, 200.0, EN) == text


def test_past_alerts_say_how_long_by_whom_and_whether_there_are_more():
    html = alert_views.past_html(PastAlerts((past(), past("q", acknowledged_by=None)), has_more=True), EN)
    for text in ("3 min", "Dana", "—", 'data-past="q"', "The newest 2 are shown", "value 91.25, limit 80"):
        assert text in html
    assert "No alert of this range" in alert_views.past_html(PastAlerts((), has_more=False), EN)


def test_models_stand_by_type_the_active_one_first_and_old_ones_are_counted():
    versions = [model(f"old-{n}", status=ModelStatus.RETIRED) for n in range(model_views.MAX_RETIRED + 3)]
    versions += [model("shadow", status=ModelStatus.SHADOW), model("now"), model("x", sensor_type="humidity")]
    catalogue = catalogue_of(*versions)
    types = model_views.by_type(catalogue)
    assert list(types) == ["humidity", "temperature"]
    assert [one.version for one in types["temperature"]][:2] == ["now", "shadow"]
    html = model_views.types_html(catalogue, EN)
    assert html.count('data-status="RETIRED"') == model_views.MAX_RETIRED
    assert "and 3 more retired versions" in html
    for text in ("Active", "Shadow", "Mean score", "0.25", "1\u202f500", "2026-03-01 12:00:00 UTC"):
        assert text in html


def test_fields_that_a_version_lacks_are_not_shown_and_those_it_has_are():
    plain = dict(model_views.facts_of(model("1"), None, EN))
    assert plain.keys() == {"Algorithm", "Trained", "Readings trained on", "Mean score"}
    newer = model(
        "2",
        training_from=NOW - timedelta(hours=1),
        training_until=NOW,
        features=("value", "slope"),
        fingerprint="0123456789abcdef0123",
        note="trained by hand",
        parameters=(Metric(name="trees", value=100.0),),
        metrics=(Metric(name="brand_new", value=1.0),),
    )
    facts = dict(model_views.facts_of(newer, None, EN))
    assert facts["Trained from"] == "2026-03-01 11:00:00 UTC"
    assert facts["Features"] == "value, slope"
    assert facts["Fingerprint"] == "0123456789abcdef"
    assert facts["Trees"] == "100"
    assert facts["brand_new"] == "1"
    assert "Before it" not in facts


def test_in_force_is_the_active_version_that_changed_last_and_a_shadow_shows_how_it_compares():
    catalogue = catalogue_of(
        model("old", changed_at=NOW),
        model("new", changed_at=NOW + timedelta(hours=1)),
        model("try", status=ModelStatus.SHADOW),
        comparison("try", partition=0, readings=900, alarms=9, strange_both=3, strange_either=4),
        comparison("try", partition=1, readings=100, alarms=1, strange_both=3, strange_either=4),
        comparison("try", partition=1, readings=5, until=NOW - timedelta(hours=1)),
    )
    (versions,) = model_views.by_type(catalogue).values()
    assert [(one.version, one.status.name) for one in versions] == [
        ("new", "ACTIVE"), ("try", "SHADOW"), ("old", "RETIRED"),
    ]  # fmt: skip
    html = model_views.types_html(catalogue, EN)
    for text in ("1\u202f000", "75%", "1.00%", "Compared with"):
        assert text in html


def catalogue_of(*records):
    return model_views.catalogue_of(fold_notes(Notes(), [Note(one, NOW_MS, n) for n, one in enumerate(records)]))


def test_the_pipeline_shows_lag_by_partition_and_the_state_of_every_part():
    looks = (look(0, alerts=90, committed=80), look(13, alerts=91, committed=80))
    seen = Seen(looks, kafka=True, database=False, redis=None)
    lag = pipeline_views.lag_html(seen, EN)
    assert f'data-lag="{topics.GROUP_ALERTING} {topics.ALERTS}"' in lag
    assert ">11</span>" in lag
    parts = pipeline_views.parts_html(seen, EN, is_live=True)
    for text in ("OK", "Away", "Not known", "Stands still", "11 wait, 0 per second worked off", "Database sink"):
        assert text in parts
    assert "fleet.alerts" in pipeline_views.rates_html(seen, EN)
    figures = pipeline_views.figures(seen, Board(), EN, now_ms=NOW_MS)
    assert (figures[0].value, figures[0].tone) == ("11", "critical")


def test_the_pipeline_before_the_first_answer():
    assert "has not answered yet" in pipeline_views.lag_html(Seen(), EN)
    assert "has not answered yet" in pipeline_views.rates_html(Seen(), EN)
    assert "few seconds" in pipeline_views.rates_html(Seen((look(0),)), EN)
    assert "Not known" in pipeline_views.parts_html(Seen(), EN, is_live=True)
    assert [figure.value for figure in pipeline_views.figures(Seen(), Board(), EN, now_ms=NOW_MS)] == [
        "—",
        "—",
        "—",
        "0",
    ]


def test_dead_letters_are_shown_newest_first_with_reason_key_and_place():
    notes = fold_notes(Notes(), [Note(dead_letter(offset=n), NOW_MS, n) for n in range(20)])
    html = pipeline_views.refusals_html(notes.refusals, EN)
    assert html.count("<tr>") == pipeline_views.REFUSALS_SHOWN + 1
    assert html.index("@ 19") < html.index("@ 18")
    assert "Not a number" in html
    assert "pump-1" in html
    counts = [RefusalCount(Stage.DECODE, Reason.TRUNCATED, 1_234, NOW)]
    html = pipeline_views.reasons_html(counts, EN, now_ms=NOW_MS)
    for text in ("Truncated", "reading it", "1\u202f234", "now"):
        assert text in html


def sightings(labels=("person", "car"), *, count=3):
    step = timedelta(seconds=30)
    bins = tuple(LabelBin(label, NOW - step * n, count) for n in range(4) for label in labels)
    newest = (SightingRow(NOW, 7, "person", 0.9, None), SightingRow(NOW, 6, "car", 0.8, 4))
    return Sightings("cam-1", NOW - step * 30, NOW, step, newest, bins)


def test_a_camera_joins_what_is_live_with_what_is_stored_each_event_once():
    live = [detection("cam-1", at=NOW + timedelta(seconds=n), seq=7 + n) for n in range(12)]
    camera = board_of(*live).cameras["cam-1"]
    assert [row.seq for row in camera_views.newest_of(camera, sightings())] == list(range(18, 8, -1))
    assert [row.seq for row in camera_views.newest_of(None, sightings())] == [7, 6]
    html = camera_views.events_html(camera_views.newest_of(None, sightings()), EN)
    assert 'data-seq="7"' in html
    assert "2026-03-01 12:00:00.0 UTC" in html
    assert '<span class="fw-bar-count">12</span>' in camera_views.labels_html(sightings(), EN)


def test_labels_stack_upon_each_other_and_stay_in_the_range():
    from dashboard import charts

    many = [f"label-{n}" for n in range(charts.LABELS_DRAWN + 2)]
    spec = charts.label_chart(sightings(many), EN).to_dict()
    rows = next(iter(spec["datasets"].values()))
    first = [row for row in rows if row["time"] == rows[0]["time"]]
    assert [(row["low"], row["high"]) for row in first] == [(0, 3), (3, 6), (6, 9), (9, 12), (12, 15), (15, 21)]
    assert first[-1]["label"] == EN("chart.others")
    assert max(row["until"] for row in rows) <= "2026-03-01T12:00:00"


@pytest.mark.parametrize("say", [EN, HE])
def test_nothing_from_outside_is_unescaped(say):
    notes = fold_notes(
        Notes(),
        [
            Note(model(HOSTILE, sensor_type=HOSTILE, algorithm=HOSTILE), NOW_MS, 0),
            Note(dead_letter(detail=HOSTILE, raw_key=HOSTILE.encode(), topic=HOSTILE), NOW_MS, 0),
        ],
    )
    pieces = [
        alert_views.open_html(
            alert(HOSTILE, device_id=HOSTILE, rule=HOSTILE, summary=HOSTILE),
            acknowledgement(HOSTILE, who=HOSTILE),
            say,
            now_ms=NOW_MS,
        ),
        alert_views.past_html(
            PastAlerts((replace(past(HOSTILE), device_id=HOSTILE, summary=HOSTILE, acknowledged_by=HOSTILE),), False),
            say,
        ),
        model_views.types_html(model_views.catalogue_of(notes), say),
        pipeline_views.refusals_html(notes.refusals, say),
        camera_views.labels_html(sightings([HOSTILE]), say),
        markup.done(HOSTILE),
    ]
    for piece in pieces:
        assert "&lt;img src=x" in piece
        assert "<img src=x" not in piece
        assert "\"'&" not in piece
