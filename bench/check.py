"""Compares what a contestant wrote with what it was sent: one scored record a reading, and the same window counts.

Everyone is compared with the readings that were sent, the hand-written loop too: two that pass scored the same
readings and have the same counts.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.feed import WINDOW_MS
from bench.measure import Contestant, Ends
from bench.outputs import Reader
from fleetwatch import columns, kafka, topics
from fleetwatch.records import ScoredReading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.feed import Fleet
    from fleetwatch.settings import Settings

Counts = dict[tuple[str, int], int]


class Scored(NamedTuple):
    """Scored records as columns: device number, sequence number, event time (ms), and the count inside (0: none)."""

    devices: np.ndarray
    seqs: np.ndarray
    times: np.ndarray
    counts: np.ndarray


def scored_by_us(values: Sequence[bytes]) -> Scored:
    batch = columns.decode_batch(values, [b"-"] * len(values), ScoredReading)
    starts, lengths = batch.strings("device_id")
    digits = batch.buffer[(starts + lengths)[:, None] + np.arange(-6, 0)] - ord("0")
    devices = digits.astype(np.int64) @ (10 ** np.arange(5, -1, -1))
    return Scored(devices, batch.numbers("seq"), batch.numbers("event_time"), np.zeros(len(values), np.int64))


def scored_by_peer(values: Sequence[bytes]) -> Scored:
    read = Reader()
    rows = [(int(row["device_id"][-6:]), row["seq"], row["event_time"], row["count"]) for row in map(read, values)]
    return Scored(*np.array(rows, np.int64).reshape(-1, 4).T)


def wrong_readings(fleet: Fleet, fed: int, scored: Scored) -> list[str]:
    """Say what is not as it must be: each of the first ``fed`` readings once, with its own event time."""
    numbers = scored.seqs * fleet.devices + scored.devices
    wrong = []
    found, repeats = np.unique(numbers, return_counts=True)
    missing = fed - np.count_nonzero((found >= 0) & (found < fed))
    if missing:
        wrong.append(f"{missing} of {fed} readings were not scored")
    if (repeats > 1).any():
        wrong.append(f"{int((repeats - 1).sum())} scored records are there twice")
    known = (numbers >= 0) & (numbers < fed)
    if not known.all():
        wrong.append(f"{np.count_nonzero(~known)} scored records are of readings that were not sent")
    if (fleet.times(0, fed)[numbers[known]] != scored.times[known]).any():
        wrong.append("scored records have another event time than their readings")
    return wrong


def wrong_counts(truth: Mapping[tuple[str, int], int], found: Counts, *, are_all_needed: bool) -> list[str]:
    """Say which counts per (device, window start) differ from the truth, and whether some are missing."""
    wrong = []
    differing = [window for window, count in found.items() if truth.get(window, 0) != count]
    if differing:
        window = differing[0]
        example = f"{window}: {found[window]}, not {truth.get(window, 0)}"
        wrong.append(f"{len(differing)} of {len(found)} window counts differ, such as {example}")
    needed = len(truth) if are_all_needed else len(truth) // 2
    if len(found) < needed:
        wrong.append(f"only {len(found)} of {len(truth)} windows were found")
    return wrong


def outputs(  # the follower's values, and what it says of them
    settings: Settings, contestant: Contestant, fleet: Fleet, fed: int, values: Sequence[bytes]
) -> dict[str, Any]:
    """Return how much was compared, and under "wrong" what is not as it must be.

    Ours writes final counts to ``fleet.counts`` (the newest windows are still open); counts of the others are the
    highest running count of each window. The contestant has finished what it was fed.
    """
    scored = scored_by_us(values) if contestant.is_ours else scored_by_peer(values)
    wrong = wrong_readings(fleet, fed, scored)
    if contestant.is_ours:
        found = _final_counts(settings)
        dead = Ends(settings, topics.DEAD_LETTERS)
        letters = dead.total()
        dead.close()
        if letters:
            wrong.append(f"{letters} dead letters")
    else:
        found = _counts_apart(settings, contestant.counts) if contestant.counts_apart else _running_counts(scored)
    truth = fleet.truth(fed)
    wrong += wrong_counts(truth, found, are_all_needed=not contestant.is_ours)
    return {"scored": len(values), "readings": fed, "windows_compared": len(found), "wrong": wrong}


def _running_counts(scored: Scored) -> Counts:
    found: Counts = {}
    windows = scored.times // WINDOW_MS * WINDOW_MS
    for device, window, count in zip(scored.devices.tolist(), windows.tolist(), scored.counts.tolist(), strict=True):
        key = (f"device-{device:06}", window)
        found[key] = max(found.get(key, 0), count)
    return found


def _final_counts(settings: Settings) -> Counts:
    read, found = Reader(), Counts()

    def on_count(message: Any) -> None:
        record = read(message.value())
        if record["is_final"] and record["scope"] == "DEVICE":
            found[record["key"], record["window_start"]] = record["count"]

    kafka.read_to_end(settings, topics.COUNTS, on_count)
    return found


def _counts_apart(settings: Settings, topic: str) -> Counts:
    """Pathway's changes of a table as JSON: each gives a row's new state (diff 1) or takes its old one away (-1)."""
    found: Counts = {}

    def on_change(message: Any) -> None:
        row = json.loads(message.value())
        if row["diff"] == 1:
            key = (row["device"], row["window"])
            found[key] = max(found.get(key, 0), row["count"])

    kafka.read_to_end(settings, topic, on_change)
    return found
