"""What the rules and detectors make of seven recordings, event for event.

A change of alerts shows as a diff of ``tests/golden/recordings``: ``REWRITE_GOLDEN=1 pytest tests/unit/golden`` writes
them anew, the recordings too (to the same bytes, unless the generator changed).
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from fleetwatch import avro, topics
from fleetwatch.recording import reader
from fleetwatch.recording.reader import Recording
from fleetwatch.records import DeadLetter
from fleetwatch.settings import Settings
from streams.replay.run import run
from tests.unit.golden import generate

FOLDER = Path(__file__).resolve().parents[2] / "golden" / "recordings"


def replay(name: str, out: Path, batch_size: int) -> dict[str, int]:
    """Replay a recording; return the counters and how many dead letters have which reason."""
    settings = Settings(rules_file=FOLDER / "rules.yaml")
    counters = run(Recording(FOLDER / name), settings, out, batch_size=batch_size).facts["counters"]
    letters = Recording(out).rows(topics.DEAD_LETTERS)
    reasons = Counter(avro.decode(value, DeadLetter).reason.value for rows in letters for value in rows.values())
    return dict(sorted((counters | reasons).items()))


@pytest.mark.parametrize("name", generate.RECORDINGS)
def test_a_recording_gives_the_alerts_that_it_gave(name: str, tmp_path: Path):
    """Also in batches of another size."""
    expected_alerts, expected_counts = FOLDER / f"{name}.alerts.jsonl", FOLDER / f"{name}.counts.json"
    if os.environ.get("REWRITE_GOLDEN") == "1":
        shutil.rmtree(FOLDER / name, ignore_errors=True)
        generate.write(name, FOLDER / name)
        (FOLDER / name / ".lock").unlink()
        counts = replay(name, tmp_path / "new", 20_000)
        expected_counts.write_text(json.dumps(counts, indent=1) + "\n")
        shutil.copy(tmp_path / "new/alerts.jsonl", expected_alerts)
    assert replay(name, tmp_path / "777", 777) == json.loads(expected_counts.read_text())
    assert (tmp_path / "777/alerts.jsonl").read_text() == expected_alerts.read_text()
    replay(name, tmp_path / "whole", 100_000)
    for file in ("results.json", "alerts.jsonl", "manifest.json"):
        assert (tmp_path / "777" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


@pytest.mark.parametrize("name", generate.RECORDINGS)
def test_a_golden_recording_is_whole_and_large_enough(name: str):
    found = reader.verify(FOLDER / name)
    assert (found.problems, found.notes) == ([], [])
    assert sum(found.events.values()) >= 10_000


def test_the_generator_still_makes_what_is_kept(tmp_path: Path):
    """The bytes of deflate may differ with its version; the rows must not."""
    generate.write("poison", tmp_path / "new")
    for topic in (topics.READINGS, topics.TRUTH):
        kept, made = (
            [
                (rows.keys().to_list(), rows.values().to_list(), rows.offsets.tolist(), rows.broker_ms.tolist())
                for rows in found.rows(topic)
            ]
            for found in (Recording(FOLDER / "poison"), Recording(tmp_path / "new"))
        )
        assert kept == made


def test_the_set_shows_every_rule_and_nothing_on_a_quiet_day():
    """Or the set would not notice if a rule stopped working."""
    fired = Counter()
    for name in generate.RECORDINGS:
        lines = (FOLDER / f"{name}.alerts.jsonl").read_text().splitlines()
        alerts = [json.loads(line) for line in lines]
        fired.update((name, alert["rule"]) for alert in alerts if alert["state"] == "FIRING")
    assert {rule for _, rule in fired} == {"unusual", "hot", "low", "crowd", "surge", "silent"}
    assert [pair for pair in fired if pair[0] == "quiet_day"] == []
