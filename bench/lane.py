"""Cost of a lane by stage: events per CPU-second of one process, no broker. `make bench` runs it.

Readings of `--devices` devices go through a production lane (default rules and windows) in batches. Stages are timed by
wrapping the functions that the lane calls; "all" is the whole fold, "both models" the same with an IsolationForest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from fleetwatch import avro, columns, topics
from fleetwatch.record_batch import Records
from fleetwatch.records import SensorReading, from_millis
from streams import devices, features, lane, policy, windows
from streams.batch import ActiveModel, RawBatch
from streams.detectors import half_space_trees, isolation_forest
from streams.lane import Lane, LaneSettings
from streams.rules import load_rules
from streams.windows import WindowRules

START_MS = 1_750_000_000_000
STAGES: dict[str, tuple[Any, str]] = {
    "decode": (columns, "decode_batch"),
    "duplicates": (devices, "fold_duplicates"),
    "windows": (windows.WindowFold, "fold"),
    "features": (features, "fold_features"),
    "half-space trees": (half_space_trees.HalfSpaceTreesFold, "fold"),
    "isolation forest": (isolation_forest.FlatForest, "score"),
    "policy": (policy.PolicyFold, "fold"),
    "rules": (lane.LaneRules, "fold"),
    "encode": (columns, "encode_batch"),
}


def make_batches(device_count: int, events: int, size: int) -> list[RawBatch]:
    """Readings in device order, 5 a second each, cut into batches."""
    rng = np.random.default_rng(1)
    values = rng.normal(20, 1, events)
    names = [f"device-{number:06}" for number in range(device_count)]
    bodies, keys = [], []
    for number in range(events):
        name = names[number % device_count]
        at = START_MS + number // device_count * 200 + number % device_count * 200 // device_count
        reading = SensorReading(
            device_id=name,
            sensor_type="temperature",
            site="hall",
            event_time=from_millis(at),
            seq=number // device_count,
            value=float(values[number]),
            unit="Cel",
        )
        bodies.append(avro.encode(reading))
        keys.append(name.encode())
    times = np.full(events, START_MS + 10**9)
    return [
        RawBatch(
            topics.READINGS,
            0,
            Records.of(
                np.arange(first, min(first + size, events)),
                times[first : first + size],
                keys[first : first + size],
                bodies[first : first + size],
            ),
        )
        for first in range(0, events, size)
    ]


def timed(stack: ExitStack, spent: dict[str, float]) -> None:
    """Wrap every stage so that its CPU time is added up."""

    def wrap(name: str, inner: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            try:
                return inner(*args, **kwargs)
            finally:
                spent[name] = spent.get(name, 0.0) + time.process_time() - began

        return run

    for name, (owner, attribute) in STAGES.items():
        stack.enter_context(mock.patch.object(owner, attribute, wrap(name, getattr(owner, attribute))))


def run_once(
    batches: list[RawBatch], models: dict[str, ActiveModel], *, by_stage: bool
) -> tuple[float, dict[str, float]]:
    """Fold all batches into a new lane; return CPU-seconds in all and by stage, without the first batch."""
    settings = LaneSettings(WindowRules(10_000, 5_000, 2_000), load_rules(), max_skew_ms=10**12, warm_up=40)
    subject = Lane(topics.READINGS, 0, settings)
    spent: dict[str, float] = {}
    subject.process(batches[0], models)
    with ExitStack() as stack:
        if by_stage:
            timed(stack, spent)
        began = time.process_time()
        for batch in batches[1:]:
            subject.process(batch, models)
        return time.process_time() - began, spent


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=2500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    batches = make_batches(options.devices, options.events, options.batch)
    count = sum(len(batch) for batch in batches[1:])
    sample = np.random.default_rng(0).normal(0.5, 0.1, (1500, features.COUNT))
    both = {"temperature": ActiveModel("bench", isolation_forest.flatten(isolation_forest.train(sample)))}
    rounds: dict[str, list[float]] = {"all": [], "both models": []}
    stages: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        rounds["all"].append(run_once(batches, {}, by_stage=False)[0])
        rounds["both models"].append(run_once(batches, both, by_stage=False)[0])
        for name, seconds in run_once(batches, both, by_stage=True)[1].items():
            stages.setdefault(name, []).append(seconds)
    figures = {name: round(count / statistics.median(times)) for name, times in (rounds | stages).items()}
    for name, rate in figures.items():
        print(f"{name:20} {rate:>12,} events per CPU-second   {1e6 / rate:8.3f} microseconds")
    if options.json:
        result = {"devices": options.devices, "batch": options.batch, "events_per_cpu_second": figures}
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
