from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting import wording
from fleetwatch.records import RuleKind
from tests.fakes.alerts import NOW, STARTED, make_alert

SAY = wording.catalog("en")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0.0 s"),
        (0.42, "0.4 s"),
        (1, "1 s"),
        (12.9, "12 s"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (11_520, "3 h 12 min"),
        (86_400 * 4 + 7200 + 59, "4 d 2 h"),
    ],
)
def test_duration(seconds, text):
    assert wording.duration_text(timedelta(seconds=seconds), SAY) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (93.2, "93.2"),
        (80.0, "80"),
        (0.973148, "0.9731"),
        (-4.0, "-4"),
        (14_250.4, "14250"),
        (1e15, "1e+15"),
        (0.0, "0"),
        (float("nan"), "not a number"),
        (float("inf"), "infinite"),
        (float("-inf"), "minus infinite"),
    ],
)
def test_value(value, text):
    assert wording.value_text(value, SAY) == text


def test_the_date_stands_only_where_it_is_not_today():
    assert wording.time_text(STARTED, NOW) == "14:03:05 UTC"
    assert wording.time_text(STARTED, NOW + timedelta(days=1)) == "2026-03-09 14:03:05 UTC"


@pytest.mark.parametrize(
    ("kind", "value", "threshold", "said", "left"),
    [
        (RuleKind.LEVEL, 93.2, 80.0, "too hot", ["now 93.2", "limit 80"]),
        (RuleKind.LEVEL, 93.2, 80.0, "t-80 is above 80: 93.2 °C", []),
        (RuleKind.LEVEL, 3.2, 80.0, "is at 93.2, was at 3.25", ["now 3.2", "limit 80"]),
        (RuleKind.ANOMALY, 0.97, 0.9, "behaves unusually: 0.97", []),
        (RuleKind.COUNT, 214, 200, "has 214 events within 10 s", ["limit 200"]),
        (RuleKind.SURGE, 42, 9, "has unusually many detections: 42 within 10 s", ["limit 9"]),
        (RuleKind.SILENCE, 125, 15, "has sent nothing for 15 s", ["silent for 2 min 5 s"]),
        (RuleKind.SILENCE, float("nan"), 15, "", ["silent for not a number", "limit 15 s"]),
        (RuleKind.SILENCE, 1e300, 15, "", ["silent for 1e+300", "limit 15 s"]),
    ],
)
def test_facts_that_the_summary_does_not_say(kind, value, threshold, said, left):
    assert wording.facts(make_alert(kind=kind, value=value, threshold=threshold), SAY, said) == left


def test_the_duration_is_said_once():
    alert = make_alert(after=12)
    assert wording.span_text(alert, NOW, SAY) == "started 14:03:05 UTC, resolved after 12 s"
    said = "temp-north-03 is back at 71 °C after 12 s"
    assert wording.span_text(alert, NOW, SAY, said) == "started 14:03:05 UTC, resolved 14:03:17 UTC"


@given(st.text(st.characters(exclude_categories=())), st.integers(1, 50))
def test_clean_text_is_one_short_printable_line(text, limit):
    line = wording.clean(text, limit)
    assert len(line) <= limit
    assert line == line.strip()
    assert line == "" or line.isprintable()


def test_clean_keeps_words_and_takes_terminal_codes_out():
    assert wording.clean("a\x1b[31mred\nb\u202ec", 50) == "a [31mred b c"
    assert wording.clean("abcdef", 4) == "abc…"
