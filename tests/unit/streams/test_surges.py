"""Counts of cameras judged by their own past: what is unusual, what is not, and that nothing depends on the cuts."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetwatch import topics
from fleetwatch.records import Alert, AlertState, RuleKind
from streams.lane import Lane
from streams.surges import LEAP, SurgeFold, Surges, counts_of, steadied
from streams.tuning import Tunings
from streams.windows import Entries, WindowRules
from tests.unit.streams.lanes import (
    START_MS,
    by_topic,
    detection,
    event,
    make_lane,
    make_rules,
    make_settings,
    messages_of,
    pieces,
    raw,
    sent,
    through_the_changelog,
)

if TYPE_CHECKING:
    from streams.batch import Outputs, RawBatch

DAY = 86_400
HALF_HOURS = WindowRules(size_ms=1_800_000, grace_ms=5_000, out_of_orderness_ms=2_000)
TEN_SECONDS = WindowRules(size_ms=10_000, grace_ms=5_000, out_of_orderness_ms=2_000)
MONDAY_MS = 1_749_427_200_000
SURGE = {"name": "surge", "kind": "surge", "at_least": 5}
LULL = {"name": "lull", "kind": "surge", "direction": "below", "at_least": 5}


def fold(counts: np.ndarray, windows: WindowRules = TEN_SECONDS, fold: SurgeFold | None = None) -> Surges:
    """Judge the counts of one camera, one a window from a Monday on; what is negative is a window that is skipped."""
    first = MONDAY_MS // windows.size_ms
    there = np.flatnonzero(counts > 0)
    ints = np.zeros((len(there), 3), np.int64)
    ints[:, 0] = counts[there]
    zeros = np.zeros(len(there), np.int64)
    final = Entries(zeros, zeros, first + there, ints, np.zeros((len(there), 4)), zeros)
    named = np.flatnonzero(counts >= 0)
    cameras, _ = (fold or SurgeFold(windows, 30, Tunings())).fold(final, np.stack([named, first + named], axis=1))
    return cameras


def unusual(found: Surges) -> set[int]:
    """The windows with more than usual, counted from the camera's first."""
    return set(np.flatnonzero(found.is_above).tolist())


def test_the_scale_of_counts_goes_back_and_its_noise_does_not_depend_on_the_mean() -> None:
    counts = np.arange(200)
    np.testing.assert_allclose(counts_of(steadied(counts)), counts, atol=1e-9)
    random = np.random.default_rng(1)
    for mean in (3, 30, 300):
        assert steadied(random.poisson(mean, 20_000)).std() == pytest.approx(1, abs=0.06)


def test_a_crowd_is_a_surge_and_chance_is_none() -> None:
    counts = np.random.default_rng(2).poisson(4, 3000)
    counts[2000:2002] += 30
    found = fold(counts)
    assert {2000, 2001} <= unusual(found) <= {2000, 2001, 2002}
    assert found.count[2000] == counts[2000]
    assert 8 <= found.high[2000] <= 20
    assert found.low[2000] == 0
    assert found.rarity[2000] > 6


def test_a_camera_is_not_judged_before_it_is_known() -> None:
    counts = np.full(29, 3)
    counts[5] = counts[25] = 400
    assert unusual(fold(counts)) == set()


def test_windows_in_which_nothing_was_seen_count_from_the_first_detection_on() -> None:
    counts = np.zeros(100, np.int64)
    counts[[40, 90]] = 7
    found = fold(counts)
    assert len(found) == 60
    assert found.count.sum() == 14
    assert found.ended[0] == MONDAY_MS + 41 * 10_000
    assert unusual(found) == {50}


def test_what_is_usual_at_noon_is_a_surge_at_night_and_on_sunday() -> None:
    """Half-hour counts of five weeks: people from eight to eighteen on weekdays, hardly any at other times."""
    slot = np.arange(35 * 48)
    is_busy = (slot % 48 >= 16) & (slot % 48 < 36) & (slot // 48 % 7 < 5)
    counts = np.random.default_rng(3).poisson(np.where(is_busy, 120, 4))
    quiet = unusual(fold(counts, HALF_HOURS))
    assert {at for at in quiet if at >= 7 * 48} == set()
    noon, night, sunday = 30 * 48 + 24, 30 * 48 + 4, 34 * 48 + 24
    assert is_busy[[noon, night, sunday]].tolist() == [True, False, False]
    counts[[noon, night, sunday]] = 120
    assert {at for at in unusual(fold(counts, HALF_HOURS)) if at >= 7 * 48} == {night, sunday}


def test_one_crowd_does_not_become_the_usual() -> None:
    counts = np.random.default_rng(4).poisson(4, 400)
    counts[200] = 500
    counts[260] = 40
    assert {200, 260} <= unusual(fold(counts))


@pytest.mark.parametrize("skipped", [1, 30, LEAP, LEAP + 1])
def test_a_pause_of_the_whole_partition_is_empty_windows_up_to_a_leap(skipped: int) -> None:
    """The fold of windows names only the last of the empty ones that a watermark passed at once."""
    counts = np.random.default_rng(5).poisson(4, 100 + skipped)
    counts[50 : 50 + skipped] = 0
    named = counts.copy()
    named[50 : 50 + skipped - 1] = -1
    whole, leapt = fold(counts), fold(named)
    if skipped <= LEAP + 1:
        assert [getattr(leapt, name).tolist() for name in ("count", "ended", "is_above", "high")] == [
            getattr(whole, name).tolist() for name in ("count", "ended", "is_above", "high")
        ]
    named[50 : 50 + skipped] = -1
    assert len(fold(named)) == (100 if skipped > LEAP else 100 + skipped)


# --- rules ---


@cache
def crowded() -> RawBatch:
    """Ten minutes of three cameras with two labels; a crowd of cars at one, then nobody at another, a pause."""
    random = np.random.default_rng(7)
    events = []
    for second in range(620):
        if 500 <= second < 540:
            continue
        for number in range(3):
            seen = int(random.poisson(1.2))
            if number == 1 and 420 <= second < 435:
                seen = 9
            if number == 2 and second >= 440 and second < 495:
                seen = 0
            for n in range(seen):
                label = "car" if random.random() < 0.3 or (number == 1 and seen == 9) else "person"
                at = second * 1000 + int(random.integers(0, 900))
                events.append(event(detection(at, camera=f"cam-{number}", seq=second * 10 + n, label=label)))
    return raw(events, topic=topics.DETECTIONS)


def alerts_of(outputs: list[Outputs], rule: str) -> list[Alert]:
    return [alert for alert in sent(outputs, topics.ALERTS) if alert.rule == rule]


def told(*rules: dict[str, Any], clock: int = 0) -> list[Alert]:
    lane = make_lane(*rules, topic=topics.DETECTIONS)
    outputs = [lane.process(crowded(), {})]
    if clock:
        outputs.append(lane.advance(START_MS + clock * 1000, START_MS + clock * 1000))
    return [alert for rule in rules for alert in alerts_of(outputs, rule["name"])]


def test_a_surge_fires_once_says_why_and_is_resolved_by_a_usual_window() -> None:
    fired, resolved = told(SURGE)
    assert (fired.device_id, fired.state, fired.kind) == ("cam-1", AlertState.FIRING, RuleKind.SURGE)
    assert fired.started_at.timestamp() * 1000 == START_MS + 430_000
    assert fired.value > 80
    assert 20 < fired.threshold < 40
    assert fired.summary.startswith(f"cam-1 has unusually many detections: {fired.value:.0f} within 10 s (value, ")
    assert " by deviation; usually " in fired.summary
    assert (resolved.state, resolved.alert_id) == (AlertState.RESOLVED, fired.alert_id)
    assert 440_000 < resolved.ended_at.timestamp() * 1000 - START_MS <= 460_000
    assert resolved.summary.startswith("cam-1 has usual counts again after ")


def test_a_surge_of_one_label_is_told_by_its_name() -> None:
    fired, _ = told(SURGE | {"labels": ["car", "bicycle"]})
    assert " (car: value, " in fired.summary
    assert told(SURGE | {"labels": ["person"]}) == []
    assert told(SURGE | {"match": {"device": "cam-2"}}) == []


def test_too_few_is_a_rule_of_its_own() -> None:
    low = told(LULL | {"at_least": 1}, clock=700)
    assert [(alert.device_id, alert.state) for alert in low[:2]] == [
        ("cam-2", AlertState.FIRING),
        ("cam-2", AlertState.RESOLVED),
    ]
    assert "cam-2 has unusually few detections: 0 within 10 s" in low[0].summary
    assert told(LULL | {"at_least": 100}, clock=700) == []


def test_the_clock_closes_windows_too() -> None:
    lane = make_lane(SURGE, topic=topics.DETECTIONS)
    batch = crowded()
    until = int(np.searchsorted(batch.times, START_MS + 429_000))
    before = lane.process(batch[:until], {})
    assert alerts_of([before], "surge") == []
    later = lane.advance(START_MS + 436_000, START_MS + 437_000)
    (fired,) = alerts_of([later], "surge")
    assert fired.device_id == "cam-1"
    assert fired.source_offset == until - 1


CARS = SURGE | {"name": "cars", "labels": ["car"]}
RULES = make_rules(SURGE, LULL, CARS, {"name": "s", "kind": "silence", "after_seconds": 9})
SETTINGS = make_settings(RULES)
FORGETFUL = replace(SETTINGS, device_ttl_ms=28_000)


@cache
def whole(is_forgetful: bool) -> tuple[dict[str, Any], list[tuple[bytes, bytes]]]:
    lane = Lane(topics.DETECTIONS, 0, FORGETFUL if is_forgetful else SETTINGS)
    out = lane.process(crowded(), {})
    assert ("devices_forgotten" in out.counters) == is_forgetful
    return by_topic([out]), messages_of(lane.copy().snapshot())


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    cuts=st.sets(st.integers(1, len(crowded()) - 1), max_size=30),
    restart=st.integers(1, len(crowded()) - 1),
    is_forgetful=st.booleans(),
)
def test_cuts_and_restarts_change_nothing(cuts: set[int], restart: int, is_forgetful: bool) -> None:
    """Also where the camera that sees nobody is forgotten and comes back, with other rows for the rest."""
    the_settings = FORGETFUL if is_forgetful else SETTINGS
    expected, state = whole(is_forgetful)
    lane, outputs = Lane(topics.DETECTIONS, 0, the_settings), []
    for part in pieces(crowded(), cuts | {restart}):
        if part.offsets[0] == restart:
            lane = Lane.restore(topics.DETECTIONS, 0, the_settings, through_the_changelog(lane.snapshot()))
        outputs.append(lane.process(part, {}))
    assert by_topic(outputs) == expected
    assert {alert.rule for alert in sent(outputs, topics.ALERTS)} >= {"surge", "cars", "s"}
    assert messages_of(lane.copy().snapshot()) == state


def test_one_detection_at_a_time_gives_the_same_as_one_batch() -> None:
    lane = Lane(topics.DETECTIONS, 0, SETTINGS)
    batch = crowded()
    assert by_topic([lane.process(part, {}) for part in pieces(batch, range(len(batch)))]) == whole(False)[0]


def test_a_snapshot_of_before_there_were_any_is_read() -> None:
    lane = make_lane(SURGE, topic=topics.DETECTIONS)
    batch = crowded()
    lane.process(batch[:500], {})
    snapshot = through_the_changelog(lane.snapshot())
    del snapshot["surges"]
    again = Lane.restore(topics.DETECTIONS, 0, lane.settings, snapshot)
    again.process(batch[500:], {})
    assert again.next_offset == len(batch)
    assert again.surges is not None
    assert again.surges.cameras.known[:3].all()
