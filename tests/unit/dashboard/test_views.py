"""What a page shows of the board: figures, cards, tables, charts; nothing from outside reaches the page unescaped."""

from __future__ import annotations

import json
import math
from datetime import timedelta

import pytest

from dashboard import camera_views, charts, device_views, look, markup, views
from dashboard.attention import assess
from dashboard.live import Arrival, Board, count_dead_letters, fold
from dashboard.problems import Problem
from dashboard.reads import AnomalyRow, History, HistoryRow
from fleetwatch import i18n
from fleetwatch.records import Severity, Verdict
from tests.unit.dashboard.factories import NOW, NOW_MS, alert, detection, reading, window

EN, HE = (i18n.texts("dashboard", language) for language in ("en", "he"))
HOSTILE = "<img src=x onerror=alert(1)>\"'&"


def board_of(*events):
    return fold(Board(), [Arrival(event, NOW_MS - 1000) for event in events])


def history(*, rows=3, anomalies=1, step=None):
    return History(
        device_id="pump-1",
        sensor_type="temperature",
        site="north",
        unit="°C",
        start=NOW - timedelta(minutes=15),
        end=NOW,
        rows=tuple(
            HistoryRow(NOW - timedelta(seconds=rows - n), 20.0 + n, 19.0, 25.0, 0.1, None, 2) for n in range(rows)
        ),
        anomalies=tuple(AnomalyRow(NOW - timedelta(seconds=n), 99.0, 0.93) for n in range(anomalies)),
        step=step,
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (21.5, "21.50"),
        (97.3, "97.30"),
        (131.2, "131.2"),
        (1234.5, "1\u202f234"),
        (-4.25, "-4.250"),
        (0.00125, "0.00125"),
        (1e12, "1e+12"),
        (math.nan, "—"),
        (math.inf, "—"),
    ],
)
def test_numbers(value, text):
    assert look.number(value) == text


@pytest.mark.parametrize(("value", "text"), [(200.0, "200"), (0.8, "0.8"), (91.25, "91.25"), (30.0, "30")])
def test_limits_have_no_zeros_at_the_end(value, text):
    assert look.limit(value) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (-50, "now"),
        (1_999, "now"),
        (59_000, "59 s ago"),
        (61_000, "1 min ago"),
        (7_300_000, "2 h ago"),
        (2e8, "2 d ago"),
    ],
)
def test_ages(milliseconds, text):
    assert look.ago(int(milliseconds), EN) == text


def test_a_sparkline_spans_its_height_and_marks_anomalies():
    drawing = look.sparkline([1.0, 3.0, 2.0], [False, True, False], width=100, height=34)
    assert "points%3D%270.0%2C31.0%2050.0%2C3.0%20100.0%2C17.0%27" in drawing
    assert drawing.count("circle") == 1


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan]])
def test_a_sparkline_of_nothing_is_empty(values):
    assert "<img" not in look.sparkline(values)


def test_headlines_count_what_is_there():
    board = board_of(
        reading("a", verdict=Verdict.ANOMALY),
        reading("b"),
        detection("cam-1"),
        alert("x", severity=Severity.CRITICAL),
        alert("y", severity=Severity.WARNING),
    )
    board = count_dead_letters(board, 1_200, {NOW_MS // 1000 - 5: 3})
    figures = views.headlines(board, assess(board, now_ms=NOW_MS), EN, now_ms=NOW_MS)
    assert [(figure.label, figure.value) for figure in figures] == [
        ("Devices", "3"),
        ("Open alerts", "2"),
        ("Readings per second", "0.2"),
        ("Dead letters", "1\u202f200"),
    ]
    assert figures[0].note == "1 camera · 1 strange"
    assert figures[1].note == "1 critical, 1 warning"
    assert figures[1].tone == "critical"
    assert figures[3].note == "3 in the last minute"


def test_a_card_shows_value_unit_state_score_and_age():
    board = board_of(reading(at=NOW - timedelta(seconds=5), value=21.5))
    (card,) = assess(board, now_ms=NOW_MS)
    html = views.card_html(card, EN, now_ms=NOW_MS)
    for text in ("pump-1", "temperature · north", "21.50", "°C", "Normal", "score 0.25", "4 s ago"):
        assert text in html


def test_a_card_that_is_marked_for_an_anomaly_of_before_says_when_that_was():
    strange = reading(at=NOW - timedelta(seconds=21), seq=1, verdict=Verdict.ANOMALY)
    board = board_of(strange, reading(at=NOW - timedelta(seconds=1), seq=2))
    (card,) = assess(board, now_ms=NOW_MS)
    html = views.card_html(card, EN, now_ms=NOW_MS)
    assert "Anomaly" in html
    assert "anomaly 20 s ago" in html
    assert "score" not in html


def test_a_device_without_score_says_so():
    board = board_of(reading(score=None))
    (card,) = assess(board, now_ms=NOW_MS)
    assert "no score yet" in views.card_html(card, EN, now_ms=NOW_MS)


@pytest.mark.parametrize("say", [EN, HE])
def test_texts_from_outside_are_escaped_everywhere(say):
    board = board_of(
        reading(HOSTILE, site=HOSTILE, sensor_type=HOSTILE, unit=HOSTILE),
        detection(HOSTILE, site=HOSTILE, label=HOSTILE),
        window(HOSTILE),
    )
    cards = assess(board, now_ms=NOW_MS)
    camera = board.cameras[HOSTILE]
    pieces = [
        views.card_html(cards[0], say, now_ms=NOW_MS),
        camera_views.card_html(camera, 1, say, now_ms=NOW_MS, is_selected=True),
        camera_views.all_labels_html(board, say),
        camera_views.events_html(camera_views.newest_of(camera, None), say),
        markup.notices([Problem("problem.kafka", (("servers", HOSTILE),))], say),
        device_views.title_html(HOSTILE, cards[0], None, say),
        device_views.nothing_stored_html(HOSTILE, say),
    ]
    for piece in pieces:
        assert "&lt;img src=x" in piece
        assert "<img src=x" not in piece
        assert "\"'&" not in piece


def test_cameras_show_rate_and_last_label_those_with_an_alert_first():
    events = [detection(f"cam-{n}", seq=n) for n in range(12)]
    events += [detection("cam-1", at=NOW - timedelta(seconds=n + 1), seq=100 + n, label="car") for n in range(9)]
    events += [alert("z", device_id="cam-9")]
    board = board_of(*events)
    assert [camera.camera_id for camera in camera_views.cameras_by_need(board)][:3] == ["cam-9", "cam-0", "cam-1"]
    html = camera_views.card_html(board.cameras["cam-1"], 2, EN, now_ms=NOW_MS, is_selected=True)
    assert '<span class="fw-value">10' in html
    assert "last: person 90%" in html
    assert "2 alerts" in html
    assert "fw-selected" in html


def test_labels_add_up_the_partitions():
    html = camera_views.all_labels_html(
        board_of(window("car", count=4), window("car", count=5, source_partition=1)), EN
    )
    assert '<span class="fw-bar-count">9</span>' in html


def test_history_note_counts_and_says_when_it_is_averaged():
    plain = device_views.history_note_html(history(), EN, now_ms=NOW_MS)
    assert "6 readings" in plain
    assert "1 anomaly" in plain
    assert "mean" not in plain
    averaged = history(step=timedelta(minutes=5))
    assert "mean of 5 min" in device_views.history_note_html(averaged, EN, now_ms=NOW_MS)


def test_figures_of_a_device_are_live_where_it_is_live_and_stored_where_not():
    (card,) = assess(board_of(reading(value=42.0, unit="Cel", score=0.5)), now_ms=NOW_MS)
    live = [figure.value for figure in device_views.figures(card, history(), EN, now_ms=NOW_MS)]
    assert live == ["42.00 °C", "0.50", "0.10", "—"]
    stored = [figure.value for figure in device_views.figures(None, history(), EN, now_ms=NOW_MS)]
    assert stored == ["22.00 °C", "—", "0.10", "—"]
    assert "Not live" in device_views.title_html("pump-1", None, history(), EN)


def test_the_newest_anomalies_come_first_and_are_bounded():
    html = device_views.anomalies_html(history(anomalies=30), EN)
    assert html.count("<tr>") == device_views.ANOMALIES_SHOWN + 1
    assert "99.00 °C" in html
    assert "No anomaly" in device_views.anomalies_html(history(anomalies=0), EN)


def test_value_chart_has_anomalies_and_a_band_only_where_there_are_some():
    def marks(chart):
        return [layer["mark"]["type"] for layer in json.loads(chart.to_json())["layer"]]

    assert marks(charts.value_chart(history(anomalies=0), EN)) == ["line"]
    assert marks(charts.value_chart(history(), EN)) == ["line", "point"]
    assert marks(charts.value_chart(history(step=timedelta(minutes=5)), EN)) == ["area", "line", "point"]


def test_score_chart_has_both_models_from_zero_to_one():
    spec = json.loads(charts.score_chart(history(), EN).to_json())
    rows = next(iter(spec["datasets"].values()))
    assert {row["model"] for row in rows} == {EN("score.online"), EN("score.batch")}
    assert [row["score"] for row in rows if row["model"] == EN("score.batch")] == [None] * 3
    assert spec["encoding"]["y"]["scale"]["domain"] == [0, 1]
