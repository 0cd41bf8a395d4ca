from __future__ import annotations

import pytest

from alerting.lifecycle import Decision, History
from tests.fakes.alerts import make_alert

FIRING = make_alert("a")
RESOLVED = make_alert("a", after=12)
OTHER = make_alert("b")


@pytest.mark.parametrize(
    ("before", "alert", "decision"),
    [
        pytest.param([], FIRING, Decision.FIRES, id="a new alert is told"),
        pytest.param([FIRING], RESOLVED, Decision.RESOLVES, id="its end is told"),
        pytest.param([], RESOLVED, Decision.RESOLVES, id="an end is told even if the beginning was not seen"),
        pytest.param([FIRING], FIRING, Decision.DUPLICATE, id="a repeated beginning is not"),
        pytest.param([FIRING, RESOLVED], RESOLVED, Decision.DUPLICATE, id="a repeated end is not"),
        pytest.param([FIRING, RESOLVED], FIRING, Decision.ALREADY_RESOLVED, id="never back to firing"),
        pytest.param([FIRING], OTHER, Decision.FIRES, id="alerts do not hide one another"),
    ],
)
def test_decision(before, alert, decision):
    history = History()
    for earlier in before:
        history.take(earlier)
    assert history.take(alert) is decision


def test_only_beginning_and_end_are_told():
    assert {decision for decision in Decision if decision.is_told} == {Decision.FIRES, Decision.RESOLVES}


def test_the_horizon_bounds_memory_and_forgets_the_oldest_first():
    history = History(horizon=3)
    for name in "abcd":
        history.take(make_alert(name))
    assert len(history) == 3
    assert history.take(make_alert("d")) is Decision.DUPLICATE
    assert history.take(make_alert("a")) is Decision.FIRES


def test_a_change_makes_an_alert_young_again():
    history = History(horizon=2)
    history.take(make_alert("a"))
    history.take(make_alert("b"))
    history.take(make_alert("a", after=1))
    history.take(make_alert("c"))  # pushes b out, not a
    assert history.take(make_alert("a", after=1)) is Decision.DUPLICATE
