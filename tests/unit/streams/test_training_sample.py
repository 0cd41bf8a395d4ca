"""Training samples: the features that scoring sees, whatever they are made from."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from fleetwatch import topics
from fleetwatch.model_catalogue import FALLBACK
from fleetwatch.recording.reader import Recording
from fleetwatch.recording.rows import Messages
from fleetwatch.recording.writer import RecordingWriter
from streams import model_training, training_sample
from streams.training_history import from_recording
from streams.training_sample import Readings, Sample, SampleFold, fallback_sample
from tests.unit.streams.lanes import START_MS, Event, event, make_lane, poison, raw, reading

if TYPE_CHECKING:
    import pytest

WARM_UP = 25


def events(count: int = 200) -> list[Event]:
    """Three devices of two types in turns; some come twice, some cannot be used."""
    rng = np.random.default_rng(3)
    made = []
    for number in range(count):
        for device, kind in (("a", "temperature"), ("b", "temperature"), ("c", "vibration")):
            value = float(rng.normal())
            made.append(event(reading(number * 1000, device=device, seq=number, sensor_type=kind, value=value)))
            if rng.random() < 0.05:
                made.append(made[-1])
    bad = [found for found, _ in poison().values()]
    return [*made[:300], *bad, *made[300:]]


def recording_of(tmp_path, some: list[Event]) -> Recording:
    keys, values, times = zip(*some, strict=True)
    with RecordingWriter(tmp_path / "recording", {topics.READINGS: 1}) as writer:
        for start in range(0, len(some), 100):
            cut = slice(start, start + 100)
            count = len(keys[cut])
            messages = Messages(
                np.zeros(count, np.int64),
                np.arange(start, start + count),
                np.array(times[cut]),
                list(keys[cut]),
                list(values[cut]),
            )
            writer.append(topics.READINGS, messages)
        writer.close(times[-1])
    return Recording(tmp_path / "recording")


def collected(recording: Recording, **span: datetime | None) -> SampleFold:
    fold = SampleFold(WARM_UP)
    for readings, _ in from_recording(recording, span.get("since"), span.get("until"), 60_000):
        fold.add(readings)
    return fold


def test_it_is_what_a_lane_would_have_offered(tmp_path) -> None:
    """The same rows, bit for bit, from the same events: repeats, refused ones and warm-up included."""
    some = events()
    offered = make_lane(warm_up=WARM_UP).process(raw(some), {}).training
    samples = collected(recording_of(tmp_path, some)).samples()
    assert samples.keys() == offered.keys() == {"temperature", "vibration"}
    for name, sample in samples.items():
        assert np.array_equal(sample.rows, offered[name])


def test_only_readings_of_the_span_are_seen(tmp_path) -> None:
    recording = recording_of(tmp_path, events())
    since, until = (datetime.fromtimestamp((START_MS + ms) / 1000, UTC) for ms in (10_000, 150_000))
    fold = collected(recording, since=since, until=until)
    assert fold.readings == 3 * 140
    (first, last) = fold.samples()["vibration"].span
    assert since <= first <= last < until


def many(count: int, *, kind: int = 0, first: int = 0) -> Readings:
    numbers = np.arange(first, first + count)
    zeros = np.zeros(count, np.int64)
    values = np.random.default_rng(first).normal(size=count)
    return Readings(["x", "y"], zeros + kind, zeros + kind, zeros + kind, numbers * 1000, numbers, values)


def test_a_long_history_is_thinned_evenly_and_the_same_however_it_is_cut() -> None:
    one, other = SampleFold(5, limit=50), SampleFold(5, limit=50)
    whole = many(1005)
    one.add(whole)
    for start in range(0, 1005, 7):
        cut = slice(start, start + 7)
        other.add(
            replace(
                whole,
                **{name: getattr(whole, name)[cut] for name in vars(whole) if name != "names"},
            )
        )
    sample, same = one.samples()["x"], other.samples()["x"]
    assert len(sample.rows) == 50
    assert np.array_equal(sample.rows, same.rows)
    steps = np.diff(sample.times)
    assert steps.max() <= 3 * steps.min()
    assert sample.times[-1] > 900_000


def test_what_is_held_out_comes_after_what_is_trained_on() -> None:
    rows = np.arange(10.0)[:, None]
    sample = Sample(rows, np.arange(10) * 1000)
    trained, held_out = sample.split()
    assert trained.ravel().tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert held_out.ravel().tolist() == [8, 9]
    assert sample.span[1].timestamp() == 7.0


def test_the_fallback_takes_as_much_of_each_type() -> None:
    samples = {
        "x": Sample(np.zeros((5000, 2)), np.arange(5000)),
        "y": Sample(np.ones((100, 2)), np.arange(100)),
        FALLBACK: Sample(np.full((50, 2), 9.0), np.arange(50)),
    }
    rows = fallback_sample(samples, limit=400).rows
    assert [(rows[:, 0] == value).sum() for value in (0, 1, 9)] == [200, 100, 0]


def test_the_fingerprint_is_of_the_rows_and_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_training.isolation_forest, "N_TREES", 2)
    rows = np.random.default_rng(1).random((200, 5))
    now = datetime(2026, 5, 4, tzinfo=UTC)
    one, same, other = (
        model_training.train("x", sample, now).record for sample in (rows, np.asfortranarray(rows), rows[::-1])
    )
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert one.version == f"20260504T000000Z-{one.fingerprint[:8]}"
    assert len(one.fingerprint) == 64


def test_a_model_is_measured_on_what_was_held_out() -> None:
    rng = np.random.default_rng(1)
    usual, strange = rng.normal(0.5, 0.05, (2000, 5)), rng.normal(0.9, 0.05, (500, 5))
    now = datetime(2026, 5, 4, tzinfo=UTC)
    model = model_training.train("x", usual, now).model
    same = model_training.held_out_metrics(model, model, usual, usual[:500])
    assert same["agreement"] == 1.0
    assert same["alarm_rate"] == same["alarm_rate_active"] <= 0.004
    assert model_training.held_out_metrics(model, None, usual, strange)["alarm_rate"] > 0.9
    assert model_training.held_out_metrics(model, None, usual, usual[:0]) == {"held_out_rows": 0.0}
    assert len(usual) > training_sample.LEAST
