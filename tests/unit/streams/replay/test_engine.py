from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from fleetwatch import avro, topics
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.recording import reader
from fleetwatch.recording.reader import Recording
from fleetwatch.recording.rows import Messages
from fleetwatch.recording.writer import RecordingWriter
from fleetwatch.settings import Settings
from streams.lane import Lane
from streams.registry import ModelRegistry
from streams.replay.run import run
from streams.worker import lane_settings
from tests.unit.streams.lanes import START_MS, Event, by_topic, detection, event, poison, raw, reading

if TYPE_CHECKING:
    from pathlib import Path

SILENCE = {"name": "silent", "kind": "silence", "after_seconds": 20}
HOT = {"name": "hot", "kind": "level", "above": 90, "clear": 80}


def write(
    folder: Path, lanes: dict[tuple[str, int], list[Event]], *, block: int = 100, ends: int | None = None
) -> Path:
    """A recording of events by topic and partition."""
    with RecordingWriter(folder, dict.fromkeys({topic for topic, _ in lanes}, 4)) as writer:
        for (topic, partition), events in lanes.items():
            for start in range(0, len(events), block):
                some = events[start : start + block]
                writer.append(
                    topic,
                    Messages(
                        np.full(len(some), partition, np.int64),
                        np.arange(start, start + len(some), dtype=np.int64),
                        np.array([time for _, _, time in some], np.int64),
                        [key for key, _, _ in some],
                        [value for _, value, _ in some],
                    ),
                )
        writer.close(ends)
    return folder


def messy(seed: int, count: int = 1500) -> dict[tuple[str, int], list[Event]]:
    """Two partitions of readings and one of detections: late, repeated and poisoned events, pauses."""
    chance = np.random.default_rng(seed)
    bad = [made for made, _ in poison().values() if len(made[1] or b"") < 10_000]
    lanes: dict[tuple[str, int], list[Event]] = {}
    for topic, partition in ((topics.READINGS, 0), (topics.READINGS, 3), (topics.DETECTIONS, 0)):
        at, events = 0, []
        for seq in range(count):
            at += int(chance.integers(0, 120))
            if chance.random() < 0.01:
                at += int(chance.integers(3_000, 90_000))
            behind = int(chance.integers(0, 40_000)) if chance.random() < 0.02 else 0
            if topic == topics.READINGS:
                value = 99.0 if chance.random() < 0.02 else float(chance.normal(20, 1))
                device = f"d{partition}-{chance.integers(4)}"
                made = event(reading(at - behind, device=device, seq=seq, value=value), delay_ms=50 + behind)
            else:
                camera = f"c{chance.integers(3)}"
                made = event(detection(at - behind, camera=camera, seq=seq), delay_ms=50 + behind)
            events.append(made)
            if chance.random() < 0.02:
                events.append(events[int(chance.integers(len(events)))])
            if chance.random() < 0.02:
                key, body, _ = bad[int(chance.integers(len(bad)))]
                events.append((key, body, START_MS + at))
        lanes[topic, partition] = events
    return lanes


def settings(folder: Path, *rules: dict[str, Any], **changes: Any) -> Settings:
    if rules:
        (folder / "rules.yaml").write_text(yaml.safe_dump({"rules": list(rules)}))
        changes["rules_file"] = folder / "rules.yaml"
    return Settings(models_dir=folder / "models", **({"idle_seconds": 3.0, "warm_up_readings": 10} | changes))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def alerts_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "alerts.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("seed", [1, 2])
def test_results_are_the_same_bytes_with_any_batch_size_and_any_blocks(tmp_path: Path, seed: int):
    """Late, repeated and poisoned events, pauses with silences noticed by the clock: nothing depends on the cut."""
    ends = START_MS + 10_000_000
    rules = settings(tmp_path, SILENCE, HOT, {"name": "any", "kind": "anomaly"})
    recording = Recording(write(tmp_path / "rec", messy(seed), ends=ends))
    other = Recording(write(tmp_path / "rec2", messy(seed), block=37, ends=ends))
    done = run(recording, rules, tmp_path / "whole", batch_size=100_000, with_scores=True)
    expected = files_of(tmp_path / "whole")
    counters = done.facts["counters"]
    assert all(counters[name] > 10 for name in ("late", "duplicates", "dead_lettered", "alerts_fired", "windows_final"))
    assert any(alert["rule"] == "silent" for alert in alerts_of(tmp_path / "whole"))
    for size in (777, 50):
        run(recording, rules, tmp_path / f"cut{size}", batch_size=size, with_scores=True)
        assert files_of(tmp_path / f"cut{size}") == expected
    run(other, rules, tmp_path / "other", batch_size=333, with_scores=True)
    assert files_of(tmp_path / "other") == expected
    assert reader.verify(tmp_path / "whole").problems == []


def test_one_event_at_a_time_is_the_same_too(tmp_path: Path):
    recording = Recording(write(tmp_path / "rec", messy(3, count=150)))
    for size in (1, 100_000):
        run(recording, settings(tmp_path, SILENCE, HOT), tmp_path / str(size), batch_size=size)
    assert files_of(tmp_path / "1") == files_of(tmp_path / "100000")


def test_what_comes_out_is_what_the_lane_gives(tmp_path: Path):
    """Without a pause no clock is needed: the outputs are those of ``Lane.process`` over the same records."""
    events = [event(reading(at, seq=at, value=20 + at % 7)) for at in range(0, 60_000, 100)]
    recording = Recording(write(tmp_path / "rec", {(topics.READINGS, 0): events}))
    chosen = settings(tmp_path, SILENCE, HOT)
    run(recording, chosen, tmp_path / "out", with_scores=True)
    lane = Lane(topics.READINGS, 0, lane_settings(chosen))
    expected = by_topic([lane.process(raw(events), {}), lane.early()])
    for topic in (topics.SCORED, topics.COUNTS):
        found = [value for rows in Recording(tmp_path / "out").rows(topic) for value in rows.values()]
        assert found == [value for _, value in expected[topic]]


def test_a_pause_is_noticed_when_it_happened(tmp_path: Path):
    """The only device pauses for ten minutes: silent 20 s after its last word, as the clock of the recording says.

    0 s   5 s                     25 s              605 s
    |.....|                       | silent          | speaks again
    """
    events = [event(reading(at, seq=at)) for at in range(0, 5001, 1000)]
    events += [event(reading(at, seq=at)) for at in range(605_000, 610_000, 1000)]
    recording = Recording(write(tmp_path / "rec", {(topics.READINGS, 0): events}))
    run(recording, settings(tmp_path, SILENCE), tmp_path / "out")
    fired, resolved = alerts_of(tmp_path / "out")
    assert (fired["state"], fired["started_at"]) == ("FIRING", "2023-11-14T22:13:45.000Z")
    # noticed at the next tick after the idle time (3 s) had passed since: the watermark is the clock minus that
    assert fired["ingest_time"] == "2023-11-14T22:13:50.000Z"
    assert (resolved["state"], resolved["ended_at"]) == ("RESOLVED", "2023-11-14T22:23:25.000Z")


def test_the_recording_goes_on_after_its_last_event(tmp_path: Path):
    """What was silent at the end is noticed only if the recorder listened long enough."""
    events = [event(reading(at, seq=at)) for at in range(0, 5001, 1000)]
    for seconds, fired in ((10, 0), (60, 1)):
        folder = write(tmp_path / f"rec{seconds}", {(topics.READINGS, 0): events}, ends=START_MS + seconds * 1000)
        done = run(Recording(folder), settings(tmp_path, SILENCE), tmp_path / f"out{seconds}")
        assert done.facts["counters"].get("alerts_fired", 0) == fired


def test_a_model_that_is_named_is_in_force(tmp_path: Path):
    """Without a name no batch model scores, whatever is active; one that does not exist is one line."""
    from datetime import UTC, datetime

    chosen = settings(tmp_path)
    sample = np.random.default_rng(0).normal(0.5, 0.1, (300, 5)).clip(0, 1)
    record, _ = ModelRegistry(chosen.models_dir).train("temperature", sample, datetime(2026, 1, 1, tzinfo=UTC))
    events = [event(reading(at, seq=at, value=20 + at % 7)) for at in range(0, 60_000, 100)]
    recording = Recording(write(tmp_path / "rec", {(topics.READINGS, 0): events}))

    def versions(out: str, *models: str) -> set[str]:
        run(recording, chosen, tmp_path / out, models=models, with_scores=True)
        return {
            avro.decode(value, avro.records.ScoredReading).batch_model
            for rows in Recording(tmp_path / out).rows(topics.SCORED)
            for value in rows.values()
        }

    assert versions("none") == {""}
    assert versions("named", record.version) == versions("active", "active") == {record.version}
    with pytest.raises(EnvironmentProblemError, match="there is no usable model 1999"):
        run(recording, chosen, tmp_path / "missing", models=["1999"])


def test_what_is_no_input_is_said(tmp_path: Path):
    folder = write(tmp_path / "rec", {(topics.ALERTS, 0): []})
    with pytest.raises(EnvironmentProblemError, match="has neither of"):
        run(Recording(folder), settings(tmp_path), tmp_path / "out")
    (tmp_path / "there").mkdir()
    with pytest.raises(EnvironmentProblemError, match="is there already"):
        run(Recording(folder), settings(tmp_path), tmp_path / "there")
