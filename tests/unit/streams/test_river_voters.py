"""Lanes in which a detector of River votes: batches, snapshots, alerts, and settings that change between runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from fleetwatch import topics
from fleetwatch.cli import evaluate
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.service import Service
from fleetwatch.settings import Settings
from streams.detectors.river_detector import WINDOW
from streams.lane import Lane
from streams.outbox import Outbox
from streams.stall import StallGuard
from streams.tuning import Tunings, load_tunings
from streams.worker import Worker
from tests.unit.streams.lanes import (
    by_topic,
    event,
    make_lane,
    make_rules,
    make_settings,
    messages_of,
    pieces,
    raw,
    reading,
    sent,
    through_the_changelog,
)

if TYPE_CHECKING:
    from pathlib import Path

    from streams.batch import Outputs, RawBatch

UNUSUAL = {"name": "unusual", "kind": "anomaly", "quiet_seconds": 1}
TREES, SVM = "river:anomaly.HalfSpaceTrees", "river:anomaly.OneClassSVM"
SMALL = {"n_trees": 4, "height": 6, "window_size": 200}
COUNT = 4 * WINDOW


def tunings(*detectors: str, **river: dict[str, Any]) -> Tunings:
    """Detectors that vote, with a bar that few hundred readings can reach, and no record rule to forestall them."""
    default = {"threshold": 1.5, "record_margin": 1e9}
    return Tunings.model_validate({"detectors": detectors, "default": default, "river": river})


TREES_VOTE = tunings(TREES, **{"anomaly.HalfSpaceTrees": SMALL})


def readings() -> RawBatch:
    """Noise of three devices; one of them leaps for two readings."""
    values = np.random.default_rng(9).normal(20, 1, COUNT)
    values[[COUNT - 60, COUNT - 57]] = 70.0
    return raw(
        [
            event(reading(100 * n, device=f"press-{n % 3}", seq=n // 3, value=float(value)))
            for n, value in enumerate(values)
        ]
    )


def lane(of: Tunings) -> Lane:
    return make_lane(UNUSUAL, tunings=of)


def again(before: Lane, of: Tunings) -> Lane:
    """A lane with perhaps other settings that takes over by the changelog."""
    settings = make_settings(make_rules(UNUSUAL), tunings=of)
    return Lane.restore(topics.READINGS, 0, settings, through_the_changelog(before.snapshot()))


def alerts(outputs: list[Outputs]) -> list[str]:
    return [alert.summary for alert in sent(outputs, topics.ALERTS)]


def test_its_alert_names_it() -> None:
    summaries = alerts([lane(TREES_VOTE).process(readings(), {})])
    assert any("press-" in text and f"by {TREES};" in text and "1 in " in text for text in summaries)


def test_the_winner_is_named_among_several() -> None:
    """With the deviation detector beside it, the row of names still fits the row of numbers."""
    found = alerts([lane(tunings(SVM, "deviation")).process(readings(), {})])
    assert any("by deviation;" in text for text in found)
    assert not any("by half-space-trees" in text or "by isolation-forest" in text for text in found)


@pytest.mark.parametrize("cuts", [[WINDOW - 1, 2 * WINDOW], [1, 301, 302, COUNT - 60, COUNT - 59]])
def test_cuts_and_restarts_change_nothing(cuts: list[int]) -> None:
    whole = lane(TREES_VOTE)
    expected = by_topic([whole.process(readings(), {})])
    part, outputs = lane(TREES_VOTE), []
    for piece in pieces(readings(), cuts):
        outputs.append(part.process(piece, {}))
        part = again(part, TREES_VOTE)
    assert by_topic(outputs) == expected
    assert messages_of(part.snapshot()) == messages_of(whole.snapshot())


def test_without_names_a_snapshot_is_as_if_there_were_none() -> None:
    state = make_lane().snapshot()
    assert not [path for path, _ in messages_of(state) if b"river" in path]
    del state["scorer"]["river"]
    Lane.restore(topics.READINGS, 0, make_settings(), state)
    assert "river" not in Tunings().model_dump_json()


def test_a_detector_that_is_named_later_begins_then_and_one_that_is_no_longer_leaves() -> None:
    first, last = pieces(readings(), [3 * WINDOW])
    plain = make_lane(UNUSUAL)
    plain.process(first, {})
    joined = again(plain, TREES_VOTE)
    joined.process(last, {})
    assert joined.snapshot()["scorer"]["river"]["anomaly.HalfSpaceTrees"]["counts"].tolist() == [WINDOW]
    left = again(joined, Tunings())
    assert left.snapshot()["scorer"]["river"] == {}


def test_calibrations_belong_to_names_whatever_their_order() -> None:
    first, last = pieces(readings(), [3 * WINDOW + 40])
    small = {"anomaly.HalfSpaceTrees": SMALL}
    before = lane(tunings(TREES, SVM, **small))
    before.process(first, {})
    expected = before.copy()
    expected.process(last, {})
    swapped = again(before, tunings(SVM, TREES, **small))
    swapped.process(last, {})
    mine, other = (each.snapshot()["scorer"]["river"] for each in (swapped, expected))
    for name in ("anomaly.HalfSpaceTrees", "anomaly.OneClassSVM"):
        assert messages_of(mine[name]) == messages_of(other[name])


def test_other_parameters_keep_the_samples_and_begin_the_calibration_anew() -> None:
    first, last = pieces(readings(), [COUNT - 400])
    before = lane(tunings(SVM, **{"anomaly.OneClassSVM": {"nu": 0.1}}))
    before.process(first, {})
    after = again(before, tunings(SVM, **{"anomaly.OneClassSVM": {"nu": 0.3}}))
    mine, old = (each.snapshot()["scorer"]["river"]["anomaly.OneClassSVM"] for each in (after, before))
    assert np.array_equal(mine["samples"], old["samples"])
    assert mine["calibration"]["histograms"].sum() == 0 < old["calibration"]["histograms"].sum()
    after.process(last, {})
    assert after.snapshot()["scorer"]["river"]["anomaly.OneClassSVM"]["calibration"]["histograms"].sum() > 50


def test_devices_that_are_forgotten_do_not_touch_it() -> None:
    forgetful = make_lane(UNUSUAL, tunings=TREES_VOTE, device_ttl_ms=10_000)
    forgetful.process(raw([event(reading(device="gone"))]), {})
    late = [event(reading(60_000 + 100 * n, seq=n, value=float(n % 7))) for n in range(300)]
    out = forgetful.process(raw(late, first=1), {})
    assert out.counters["devices_forgotten"] == 1
    assert forgetful.snapshot()["scorer"]["river"]["anomaly.HalfSpaceTrees"]["counts"].tolist() == [295]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("detectors: ['river:anomaly.Magic']", "detectors.0: River has no anomaly.Magic; there are river:anomaly."),
        ("detectors: ['river:anomaly.GaussianScorer']", "detectors.0: River's anomaly.GaussianScorer is told"),
        (
            "{detectors: ['river:anomaly.OneClassSVM'], river: {anomaly.OneClassSVM: {nuu: 1}}}",
            "river: anomaly.OneClassSVM has no parameter nuu; it has nu,",
        ),
        (
            "river: {anomaly.OneClassSVM: {nu: 0.1}}",
            "river: anomaly.OneClassSVM does not vote: name river:anomaly.OneC",
        ),
        (
            "{detectors: ['river:anomaly.OneClassSVM'], river: {anomaly.OneClassSVM: 3}}",
            "river.anomaly.OneClassSVM: Input should be",
        ),
        ("detectors: [magic]", "there is no detector magic; there are adaptive, "),
    ],
)
def test_a_detection_file_with_a_wrong_one_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "detection.yaml"
    path.write_text(text)
    with pytest.raises(EnvironmentProblemError) as problem:
        load_tunings(path)
    assert said in str(problem.value)
    assert "\n" not in str(problem.value)


def test_a_detection_file_may_name_one_with_parameters(tmp_path: Path) -> None:
    path = tmp_path / "detection.yaml"
    path.write_text("{detectors: [adaptive, 'river:anomaly.OneClassSVM'], river: {anomaly.OneClassSVM: {nu: 0.2}}}")
    found = load_tunings(path)
    assert found.detectors == ("adaptive", SVM)
    assert found.river_detectors() == {SVM: {"nu": 0.2}}


def test_a_worker_says_at_its_start_that_it_is_slow(tmp_path: Path) -> None:
    path = tmp_path / "detection.yaml"
    path.write_text("detectors: [adaptive, 'river:anomaly.OneClassSVM']")
    settings = Settings(models_dir=tmp_path, detection_file=path)
    with capture_logs() as lines:
        for chosen in (settings, settings.model_copy(update={"detection_file": None})):
            with Service("test", host="127.0.0.1", port=0) as service:
                Worker(chosen, service, StallGuard(1.0), Outbox(chosen))
    assert [line["detectors"] for line in lines if line["event"] == "river_detector_is_slow"] == [[SVM]]


@pytest.mark.parametrize("name", ["river:anomaly.Magic", "magic"])
def test_the_command_line_refuses_an_unknown_detector_before_it_reads_anything(tmp_path: Path, name: str) -> None:
    for command in (evaluate.nab, evaluate.skab):
        with pytest.raises(EnvironmentProblemError, match=r"--detector: .*; there are "):
            command(tmp_path / "nowhere", [name])


def test_the_command_line_takes_detectors_of_river() -> None:
    assert evaluate._voters([SVM, "adaptive", SVM]) == (SVM, "adaptive")
