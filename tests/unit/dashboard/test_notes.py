"""Acknowledgements, models and dead letters beside the readings: order and repetition change nothing."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations

from dashboard import actions, notes
from dashboard.notes import Note, Notes, fold_notes
from fleetwatch.records import Action, ModelStatus
from tests.unit.dashboard.factories import NOW, NOW_MS, acknowledgement, alert, comparison, dead_letter, model


def test_the_first_acknowledgement_counts_in_any_order():
    late = acknowledgement("a", who="later", at=NOW + timedelta(seconds=9), action_id="2")
    early = acknowledgement("a", who="first", at=NOW, action_id="1")
    mute = acknowledgement("b", action=Action.MUTE)
    for order in permutations([late, early, mute, early]):
        found = fold_notes(Notes(), [Note(one, NOW_MS, 0) for one in order]).acknowledged
        assert {key: action.who for key, action in found.items()} == {"a": "first"}


def test_the_newest_message_of_a_model_version_wins_in_any_order():
    messages = [
        Note(model("1", status=ModelStatus.SHADOW), NOW_MS, 7),
        Note(model("1", status=ModelStatus.ACTIVE), NOW_MS + 5, 3),
        Note(model("1", status=ModelStatus.RETIRED), NOW_MS + 5, 4),
        Note(model("2"), NOW_MS, 8),
    ]
    for order in permutations(messages):
        found = fold_notes(Notes(), order).models
        assert {key: told.model.status for key, told in found.items()} == {
            ("temperature", "1"): ModelStatus.RETIRED,
            ("temperature", "2"): ModelStatus.ACTIVE,
        }


def test_the_comparison_with_the_latest_reading_wins_in_any_order():
    messages = [
        Note(comparison("v2", partition=0, readings=n, until=NOW + timedelta(seconds=n)), NOW_MS, n)
        for n in (100, 200, 300)
    ] + [Note(comparison("v2", partition=1, readings=1_000), NOW_MS, 0)]
    for order in permutations(messages):
        found = fold_notes(Notes(), order).comparisons
        assert {key: one.readings for key, one in found.items()} == {
            ("temperature", "v2", 0): 300,
            ("temperature", "v2", 1): 1_000,
        }


def test_dead_letters_are_known_by_their_place_and_bounded():
    letters = [Note(dead_letter(offset=n, raw_key=b"\xffpump" * 99), NOW_MS, n) for n in range(80)]
    found = fold_notes(fold_notes(Notes(), letters), letters).refusals
    assert [one.offset for one in found] == list(range(80 - notes.MAX_REFUSALS, 80))
    assert len(found[0].key) == notes.SHOWN_KEY_BYTES


def test_acknowledgements_are_bounded_to_the_newest(monkeypatch):
    monkeypatch.setattr(notes, "MAX_ACKNOWLEDGED", 2)
    given = [acknowledgement(f"a{n}", at=NOW + timedelta(seconds=n)) for n in range(5)]
    assert fold_notes(Notes(), [Note(one, NOW_MS, 0) for one in given]).acknowledged.keys() == {"a3", "a4"}


def test_a_second_click_is_the_same_action_and_a_name_is_one_line():
    first = actions.acknowledgement(alert("x"), who=" Dana\n Levi ", at=NOW)
    again = actions.acknowledgement(alert("x"), who="Dana Levi", at=NOW + timedelta(minutes=1))
    assert first.action_id == again.action_id
    assert (first.who, first.alert_id, first.device_id, first.action) == (
        "Dana Levi", "x", "pump-1", Action.ACKNOWLEDGE,
    )  # fmt: skip
    assert actions.acknowledgement(alert("x"), who="Noa", at=NOW).action_id != first.action_id
    assert actions.acknowledgement(alert("x"), who="  ", at=NOW).who == "dashboard"
    assert len(actions.acknowledgement(alert("x"), who="x" * 500, at=NOW).who) == actions.LONGEST_NAME
