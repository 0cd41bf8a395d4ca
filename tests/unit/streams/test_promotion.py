"""The guard: which shadow may come in force."""

from __future__ import annotations

from typing import Any

import pytest

from fleetwatch.model_catalogue import Compared
from streams.promotion import Limits, objections

LIMITS = Limits(readings=1000, agreement=0.3, difference=0.2, alarm_ratio=3.0)


def compared(**changes: Any) -> Compared:
    facts = {
        "version": "v2",
        "against": "v1",
        "readings": 10_000,
        "alarms": 20,
        "alarms_against": 10,
        "strange_both": 60,
        "strange_either": 100,
        "difference_sum": 500.0,
    }
    return Compared(**(facts | changes))


CASES: dict[str, tuple[Compared | None, str | None, tuple[str, ...]]] = {
    "a shadow that does well": (compared(), "v1", ()),
    "nothing is in force: there is nothing to disagree with": (None, None, ()),
    "never compared": (None, "v1", ("scored 0 readings beside v1", "1000")),
    "too few readings": (compared(readings=999), "v1", ("scored 999 readings",)),
    "just enough readings": (compared(readings=1000, alarms=2, difference_sum=50.0), "v1", ()),
    "compared with a version that is no longer in force": (compared(), "v9", ("scored 0 readings beside v9",)),
    "too little agreement": (compared(strange_both=29), "v1", ("agree on 29%", "29 of 100", "30%")),
    "just enough agreement": (compared(strange_both=30), "v1", ()),
    "nothing was strange to either": (compared(strange_both=0, strange_either=0), "v1", ()),
    "scores differ too much": (compared(difference_sum=2001.0), "v1", ("differ by 0.200",)),
    "alarms up to half a percent are usual": (compared(alarms=50, alarms_against=0), "v1", ()),
    "too many alarms, the other has none": (compared(alarms=51, alarms_against=0), "v1", ("0.51%", "0.00%", "0.50%")),
    "three times as many alarms": (compared(alarms=300, alarms_against=100), "v1", ()),
    "more than three times as many": (compared(alarms=301, alarms_against=100), "v1", ("3.01%", "1.00%", "3.00%")),
    "fewer alarms than the other": (compared(alarms=0, alarms_against=1000), "v1", ()),
    "each objection is said": (
        compared(strange_both=0, difference_sum=9000.0, alarms=9000),
        "v1",
        ("agree on 0%", "differ by 0.900", "90.00%"),
    ),
}


@pytest.mark.parametrize(("found", "active", "words"), CASES.values(), ids=CASES)
def test_what_stands_against_a_shadow(found: Compared | None, active: str | None, words: tuple[str, ...]):
    said = objections(found, active, LIMITS)
    assert bool(said) == bool(words)
    for word in words:
        assert word in " ".join(said)
