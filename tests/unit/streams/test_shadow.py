"""Other batch models on a lane: shadows that change nothing, the fallback, and a change of models."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from fleetwatch import topics
from fleetwatch.model_catalogue import FALLBACK
from streams.model_names import label
from streams.shadow import CALIBRATION
from tests.unit.streams.lanes import by_topic, event, forest, make_lane, messages_of, pieces, raw, reading, sent

if TYPE_CHECKING:
    from fleetwatch.records import ModelComparison, ScoredReading
    from streams.batch import ActiveModel, Outputs, RawBatch
    from streams.lane import Lane

WARM_UP = 25


def readings(count: int, *kinds: str, first: int = 0) -> RawBatch:
    rng = np.random.default_rng(first)
    events = [
        event(reading((first + n) * 1000, device=kind, seq=first + n, sensor_type=kind, value=float(rng.normal())))
        for n in range(count)
        for kind in kinds
    ]
    return raw(events, first=first * len(kinds))


def unknown(*_: Any) -> None:
    """Nobody has compared anything before."""


def lane_with(shadows: dict[str, ActiveModel], models: dict[str, ActiveModel]) -> Lane:
    lane = make_lane(warm_up=WARM_UP)
    lane.watch(shadows, models, unknown)
    return lane


def leveled(model: ActiveModel, level: float, version: str = "shadow") -> ActiveModel:
    return replace(model, version=version, alarm_level=level)


MODELS = {"temperature": leveled(forest(0), 0.5, "v0")}
SHADOWS = {"temperature": leveled(forest(1), 0.0)}


def test_a_shadow_changes_no_output_and_no_state() -> None:
    batch = readings(400, "temperature")
    plain, watched = make_lane(warm_up=WARM_UP), lane_with(SHADOWS, MODELS)
    assert by_topic([plain.process(batch, MODELS)]) == by_topic([watched.process(batch, MODELS)])
    assert messages_of(plain.snapshot()) == messages_of(watched.snapshot())
    assert watched.compared()


def test_a_shadow_is_compared_from_its_calibration_on_however_batches_are_cut() -> None:
    count, batch = 600, readings(600, "temperature")
    whole, cut = lane_with(SHADOWS, MODELS), lane_with(SHADOWS, MODELS)
    whole.process(batch, MODELS)
    for part in pieces(batch, range(0, count, 37)):
        cut.process(part, MODELS)
    (found,), (same,) = whole.compared(), cut.compared()
    assert replace(same, since=found.since, difference_sum=found.difference_sum) == found
    assert same.difference_sum == pytest.approx(found.difference_sum)
    assert (found.version, found.against, found.partition) == ("shadow", "v0", 0)
    assert found.readings == count - WARM_UP - CALIBRATION
    assert found.alarms == found.readings  # its alarm level is 0
    assert 0 < found.alarms_against < found.readings
    assert 0 <= found.strange_both <= found.strange_either < found.readings
    assert 0 < found.difference_sum / found.readings < 0.5
    assert whole.compared() == []  # told once


def test_a_model_beside_itself_agrees() -> None:
    shadows = {"temperature": replace(MODELS["temperature"], version="same")}
    lane = lane_with(shadows, MODELS)
    lane.process(readings(600, "temperature"), MODELS)
    (found,) = lane.compared()
    assert found.strange_both == found.strange_either > 0
    assert found.difference_sum == 0.0
    assert found.alarms == found.alarms_against


def test_a_comparison_goes_on_from_what_is_known_of_the_same_two() -> None:
    first = lane_with(SHADOWS, MODELS)
    first.process(readings(500, "temperature"), MODELS)
    (before,) = first.compared()

    def known(*_: Any) -> ModelComparison:
        return before

    other = make_lane(warm_up=WARM_UP)
    other.watch(SHADOWS, MODELS, known)
    other.process(readings(400, "temperature"), MODELS)
    (found,) = other.compared()
    assert found.readings == before.readings + 400 - WARM_UP - CALIBRATION
    another = {"temperature": leveled(forest(2), 0.5, "v9")}
    other.watch(SHADOWS, another, known)
    other.process(readings(400, "temperature", first=400), another)
    (found,) = other.compared()
    assert (found.against, found.readings) == ("v9", 400 - CALIBRATION)


def test_a_shadow_that_cannot_score_is_given_up_and_hinders_nobody() -> None:
    broken = replace(forest(1), version="broken", forest=replace(forest(1).forest, roots=None))
    lane = lane_with({"temperature": broken}, MODELS)
    with capture_logs() as logs:
        out = lane.process(readings(50, "temperature"), MODELS)
    assert len(sent(out, topics.SCORED)) == 50
    assert [line["event"] for line in logs] == ["shadow_given_up"]


# --- The fallback


def batch_models(out: Outputs) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for record in sent(out, topics.SCORED):
        found.setdefault(record.sensor_type, set()).add(record.batch_model)
    return found


def test_a_type_without_a_model_gets_the_fallbacks_score_and_says_so() -> None:
    models = MODELS | {FALLBACK: replace(forest(3), version=label(FALLBACK, "f1"))}
    lane = make_lane(warm_up=WARM_UP)
    out = lane.process(readings(100, "temperature", "humidity"), models)
    assert batch_models(out) == {"temperature": {"v0"}, "humidity": {"fallback/f1"}}
    scored: list[ScoredReading] = [one for one in sent(out, topics.SCORED) if one.sensor_type == "humidity"]
    assert all(one.batch_score is not None for one in scored[WARM_UP:])


def test_a_type_that_the_fallback_scores_is_still_offered_for_its_first_training() -> None:
    models = MODELS | {FALLBACK: replace(forest(3), version=label(FALLBACK, "f1"))}
    out = make_lane(warm_up=WARM_UP).process(readings(100, "temperature", "humidity"), models)
    assert out.training.keys() == {"humidity"}
    assert len(out.training["humidity"]) == 100 - WARM_UP


def test_a_shadow_of_the_fallback_is_compared_on_types_without_a_model_only() -> None:
    models = MODELS | {FALLBACK: replace(forest(3), version=label(FALLBACK, "f1"))}
    lane = lane_with({FALLBACK: replace(forest(4), version=label(FALLBACK, "f2"))}, models)
    lane.process(readings(400, "temperature", "humidity"), models)
    (found,) = lane.compared()
    assert (found.sensor_type, found.version, found.against) == (FALLBACK, "f2", "f1")
    assert found.readings == 400 - WARM_UP - CALIBRATION


# --- A change of models


def scored_after(lane: Lane, models: dict[str, ActiveModel]) -> list[float]:
    out = lane.process(readings(50, "temperature", first=1000), models)
    return [one.batch_score for one in sent(out, topics.SCORED)]


def test_another_model_is_not_judged_by_the_calibration_of_the_one_before() -> None:
    """As if there had been none; a model that stays keeps its own."""
    new = {"temperature": replace(forest(1), version="v1")}
    changed, same, fresh = (make_lane(warm_up=WARM_UP) for _ in range(3))
    changed.process(readings(1000, "temperature"), MODELS)
    same.process(readings(1000, "temperature"), MODELS)
    fresh.process(readings(1000, "temperature"), {})
    before = messages_of(same.snapshot())
    same.change_models(MODELS, MODELS)
    assert messages_of(same.snapshot()) == before
    changed.change_models(MODELS, new)
    fresh.change_models({}, new)
    assert scored_after(changed, new) == scored_after(fresh, new)


def test_a_shadow_that_is_promoted_brings_its_calibration_along() -> None:
    """Its scores are those of a model that was in force all the time."""
    promoted, always = lane_with(SHADOWS, MODELS), make_lane(warm_up=WARM_UP)
    promoted.process(readings(1000, "temperature"), MODELS)
    always.process(readings(1000, "temperature"), SHADOWS)
    promoted.change_models(MODELS, SHADOWS)
    assert scored_after(promoted, SHADOWS) == pytest.approx(scored_after(always, SHADOWS))


def test_a_restored_lane_goes_on_as_one_that_changed_its_models() -> None:
    new = {"temperature": replace(forest(1), version="v1")}
    lane = make_lane(warm_up=WARM_UP)
    lane.process(readings(500, "temperature"), MODELS)
    lane.change_models(MODELS, new)
    copy = lane.copy()
    assert scored_after(lane, new) == scored_after(copy, new)
