"""Mutes and acknowledgements, a fold that no order of partitions changes; crossings; the outbox."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting.crossings import Crossings
from alerting.lifecycle import Decision, History
from alerting.muting import Scope, Standing, Target
from alerting.outbox import Verdict, state_after, verdict_of
from alerting.ports import Delivered, RefusalReason, Refused, RetryAfter, RetryReason, State
from fleetwatch import topics
from fleetwatch.records import Action, AlertAction, RuleKind
from tests.fakes.alerts import NOW, STARTED, make_alert

HOUR = timedelta(hours=1)
ALERT = make_alert("a1", rule="too-hot", device_id="temp-1")


def action(what=Action.MUTE, *, minutes=0, until=NOW + HOUR, number=1, **names):
    named = {"alert_id": "", "device_id": "", "rule": ""} | names
    at = NOW + timedelta(minutes=minutes)
    return AlertAction(action_id=f"x{number}", action=what, who=f"w{number}", at=at, until=until, **named)


@pytest.mark.parametrize(
    ("names", "scope"),
    [
        ({}, Scope.ALL),
        ({"rule": "too-hot"}, Scope.RULE),
        ({"device_id": "temp-1"}, Scope.DEVICE),
        ({"alert_id": "a1", "device_id": "temp-1"}, Scope.ALERT),
        ({"rule": "other"}, None),
        ({"device_id": "temp-2"}, None),
        ({"alert_id": "a2", "device_id": "temp-1"}, None),
    ],
)
def test_what_a_mute_holds_back(names, scope):
    standing = Standing().after([action(**names)])
    mute = standing.mute_of(ALERT, NOW)
    assert (mute.target.scope if mute else None) is scope
    assert standing.mute_of(ALERT, NOW + HOUR) is None, "over"


def test_a_mute_ends_when_it_is_lifted_and_a_newer_one_counts():
    muted = Standing().after([action()])
    assert muted.active(NOW)
    lifted = muted.after([action(Action.UNMUTE, minutes=1, number=2)])
    assert lifted.active(NOW) == []
    again = lifted.after([action(minutes=2, until=None, number=3)])
    assert [mute.target for mute in again.active(NOW + 1000 * HOUR)] == [Target(Scope.ALL)]


def test_the_first_acknowledgement_counts():
    standing = Standing().after([action(Action.ACKNOWLEDGE, alert_id="a1", number=n, minutes=n) for n in (2, 1, 3)])
    assert standing.acknowledged["a1"].who == "w1"


ACTIONS = st.lists(
    st.builds(
        action,
        st.sampled_from([Action.MUTE, Action.UNMUTE, Action.ACKNOWLEDGE, Action.FEEDBACK_REAL]),
        minutes=st.integers(0, 3),
        number=st.integers(1, 9),
        rule=st.sampled_from(["", "too-hot"]),
        alert_id=st.sampled_from(["", "a1"]),
    ),
    max_size=8,
    unique_by=lambda one: (one.action_id, one.at),
)


@settings(max_examples=40)
@given(ACTIONS, st.randoms())
def test_the_order_of_reading_changes_nothing_nor_does_reading_twice(actions, random):
    shuffled = [*actions, *actions]
    random.shuffle(shuffled)
    standing = Standing()
    for one in shuffled:
        standing = standing.after([one])
    assert standing == Standing().after(actions)


def test_why_a_notice_does_not_go_out():
    history = History()
    fire, end = make_alert("a1"), make_alert("a1", after=3)
    assert history.take(fire, Scope.RULE) is Decision.MUTED_RULE
    assert history.take(fire) is Decision.DUPLICATE
    assert history.take(end) is Decision.NEVER_TOLD
    told = make_alert("a2")
    assert history.take(told) is Decision.FIRES
    assert history.take(make_alert("a2", after=3), Scope.ALL) is Decision.MUTED_ALL
    assert history.find("a2").ended_at is not None
    silent = {decision for decision in Decision if not decision.is_told}
    assert {decision for decision in silent if decision.is_muted} == silent - {
        Decision.DUPLICATE,
        Decision.ALREADY_RESOLVED,
    }
    assert all(Decision.muted(scope).is_muted for scope in Scope)


#   limit  ----250----......---250-----...........250
#   below             2 min            6 min
def test_one_summary_a_crossing():
    crossings = Crossings(200)

    def change(minute, *, over=False, value=250.0, device="cam-1", source=topics.DETECTIONS, kind=RuleKind.COUNT):
        started = STARTED + timedelta(minutes=minute)
        return crossings.passes(
            make_alert(
                f"{device}-{minute}",
                kind=kind,
                value=value,
                device_id=device,
                started_at=started,
                source_topic=source,
                after=60 if over else None,
            )
        )

    assert change(0)
    assert not change(0, over=True)  # over at minute 1
    assert not change(3), "on the edge"
    assert not change(3, over=True)  # over at minute 4
    assert change(10)
    assert change(10, device="cam-2"), "each camera"
    assert not change(0, device="cam-3", value=150.0)
    assert not change(0, device="press-1", source=topics.READINGS)
    assert not change(0, device="cam-4", kind=RuleKind.LEVEL)
    assert not Crossings(0).passes(make_alert("x", kind=RuleKind.COUNT, source_topic=topics.DETECTIONS, value=900.0))


@pytest.mark.parametrize(
    ("recorded", "verdict"),
    [
        (None, Verdict.SEND),
        (State.RETRYING, Verdict.SEND),
        (State.UNKNOWN, Verdict.SEND_AS_REPEAT),
        (State.SENT, Verdict.SENT_BEFORE),
        (State.REFUSED, Verdict.REFUSED_BEFORE),
    ],
)
def test_what_a_record_means(recorded, verdict):
    assert verdict_of(recorded) is verdict


SILENT = RetryAfter(reason=RetryReason.TIMED_OUT, may_have_arrived=True)
FLOOD = RetryAfter(reason=RetryReason.RATE_LIMITED)


@pytest.mark.parametrize(
    ("outcome", "was_doubtful", "state"),
    [
        (Delivered(), False, State.SENT),
        (Delivered(), True, State.SENT),
        (Refused(reason=RefusalReason.FORBIDDEN), True, State.REFUSED),
        (FLOOD, False, State.RETRYING),
        (FLOOD, True, State.UNKNOWN),  # an earlier try may have arrived
        (SILENT, False, State.UNKNOWN),
    ],
)
def test_what_is_recorded_after_a_try(outcome, was_doubtful, state):
    assert state_after(outcome, was_doubtful=was_doubtful) is state
