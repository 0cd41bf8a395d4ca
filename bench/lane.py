"""Cost of a lane by stage: events per CPU-second and per second of one process, no broker.

Readings of `--devices` devices go through a production lane (default rules and windows) in batches. Stages are timed by
wrapping the functions that the lane calls; "fold" is the whole lane, "fold, both models" the same with an
IsolationForest of 100 trees.
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

from bench.feed import Fleet
from bench.figures import Rate
from fleetwatch import columns, topics
from fleetwatch.record_batch import Records
from streams import devices, features, lane, policy, windows
from streams.batch import ActiveModel, Block, RawBatch
from streams.detectors import half_space_trees, isolation_forest
from streams.lane import Lane, LaneSettings
from streams.rules import load_rules
from streams.windows import WindowRules

START_MS = 1_750_000_000_000
WARM_READINGS = 40
KINDS = ("temperature", "humidity", "pressure", "vibration")
STAGES: dict[str, tuple[Any, str]] = {
    "decode": (columns, "decode_batch"),
    "duplicates": (devices, "fold_duplicates"),
    "window": (windows.WindowFold, "fold"),
    "features": (features, "fold_features"),
    "online score": (half_space_trees.HalfSpaceTreesFold, "fold"),
    "batch score": (isolation_forest.FlatForest, "score"),
    "policy": (policy.PolicyFold, "fold"),
    "rules": (lane.LaneRules, "fold"),
    "encode": (columns, "encode_batch"),
}
Spent = tuple[float, float]
"""CPU-seconds and seconds."""


def make_batches(device_count: int, events: int, size: int) -> list[RawBatch]:
    """Readings in device order, 5 a second each, cut into batches."""
    pairs = Fleet(device_count, 5 * device_count, START_MS).readings(0, events)
    times = np.full(events, START_MS + 10**9)
    return [
        RawBatch(
            topics.READINGS,
            0,
            Records.of(
                np.arange(first, min(first + size, events)),
                times[first : first + size],
                [key for key, _ in pairs[first : first + size]],
                [value for _, value in pairs[first : first + size]],
            ),
        )
        for first in range(0, events, size)
    ]


def new_lane() -> Lane:
    settings = LaneSettings(WindowRules(10_000, 5_000, 2_000), load_rules(), max_skew_ms=10**12, warm_up=WARM_READINGS)
    return Lane(topics.READINGS, 0, settings)


def scored_block(device_count: int, size: int) -> Block:
    """Scored records as a warm lane writes them for one batch: they must compress as real ones do."""
    subject = new_lane()
    for batch in make_batches(device_count, WARM_READINGS * device_count + size, size):
        out = subject.process(batch, {})
    return next(block for block in out.blocks if block.topic == topics.SCORED)


def timed(stack: ExitStack, spent: dict[str, Spent]) -> None:
    """Wrap every stage so that its time is added up."""

    def wrap(name: str, inner: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            cpu, wall = time.process_time(), time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                before = spent.get(name, (0.0, 0.0))
                spent[name] = (before[0] + time.process_time() - cpu, before[1] + time.perf_counter() - wall)

        return run

    for name, (owner, attribute) in STAGES.items():
        stack.enter_context(mock.patch.object(owner, attribute, wrap(name, getattr(owner, attribute))))


def run_once(batches: list[RawBatch], models: dict[str, ActiveModel], *, by_stage: bool) -> dict[str, Spent]:
    """Fold all batches into a new lane; return what it took in all and by stage, without the first batch."""
    subject = new_lane()
    spent: dict[str, Spent] = {}
    subject.process(batches[0], models)
    with ExitStack() as stack:
        if by_stage:
            timed(stack, spent)
        cpu, wall = time.process_time(), time.perf_counter()
        for batch in batches[1:]:
            subject.process(batch, models)
        whole = (time.process_time() - cpu, time.perf_counter() - wall)
    return spent if by_stage else {"fold, both models" if models else "fold": whole}


def measure(device_count: int, events: int, size: int, rounds: int) -> dict[str, Rate]:
    """Return the rates of each stage and of the whole fold: medians over the rounds."""
    batches = make_batches(device_count, events, size)
    count = sum(len(batch) for batch in batches[1:])
    sample = np.random.default_rng(0).normal(0.5, 0.1, (1500, features.COUNT))
    model = ActiveModel("bench", isolation_forest.flatten(isolation_forest.train(sample)))
    both = dict.fromkeys(KINDS, model)
    found: dict[str, list[Spent]] = {}
    for _ in range(rounds):
        for models, by_stage in ((both, True), ({}, False), (both, False)):
            for name, spent in run_once(batches, models, by_stage=by_stage).items():
                found.setdefault(name, []).append(spent)
    return {
        name: Rate(*(round(count / statistics.median(one[which] for one in spent)) for which in (0, 1)))
        for name, spent in found.items()
    }


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=2500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    found = measure(options.devices, options.events, options.batch, options.rounds)
    for name, rate in found.items():
        microseconds = 1e6 / rate.per_cpu_second
        print(f"{name:20} {rate.per_cpu_second:>12,} events per CPU-second   {microseconds:8.3f} microseconds")
    if options.json:
        result = {name: rate._asdict() for name, rate in found.items()}
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
