"""The Skoltech Anomaly Benchmark, streamed through the production engine.

Each run of the rig is a device with eight channels that sends one reading of each every second. The first 400 rows
are for calibration, as the benchmark's protocol has it: the setting ``calibration``. A row counts as alarmed when any
of its readings has the verdict ANOMALY. Rows from 400 on are compared with the labels, pooled over all runs.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.records import to_millis
from streams.evaluation.engine import alarms_of, benchmark_engine, encode_readings
from streams.tuning import VOTERS, Tuning

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fleetwatch.byte_column import ByteColumn

CALIBRATION: Final = 400
_LABELS: Final = ("datetime", "anomaly", "changepoint")


@dataclass(frozen=True)
class Run:
    """One run: readings as on the wire in row order, ``channels`` of them a row, and which rows are anomalous."""

    name: str
    channels: int
    times: NDArray[np.int64]
    messages: ByteColumn
    labels: NDArray[np.bool_]


@dataclass(frozen=True)
class Report:
    """Pooled point-wise figures, as fractions, and for each run how many rows were alarmed rightly and wrongly."""

    f1: float
    far: float
    mar: float
    runs: dict[str, dict[str, int]]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"f1": round(self.f1, 4), "far": round(self.far, 4), "mar": round(self.mar, 4), "files": self.runs}


def load(folder: Path) -> list[Run]:
    """Read every labelled run below ``folder``/data.

    Raises:
        EnvironmentProblemError: there is none, or a file is damaged.

    """
    paths = sorted(path for path in (folder / "data").glob("*/*.csv") if path.parent.name != "anomaly-free")
    if not paths:
        raise EnvironmentProblemError(f"no runs below {folder / 'data'}: expected valve1/0.csv and the like")
    return [_load_run(path, f"{path.parent.name}/{path.stem}") for path in paths]


def _load_run(path: Path, name: str) -> Run:
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines, delimiter=";"))
        channels = [column for column in rows[0] if column not in _LABELS]
        labels = np.array([float(row["anomaly"]) > 0 for row in rows])
        times = np.array([to_millis(datetime.fromisoformat(row["datetime"]).replace(tzinfo=UTC)) for row in rows])
        values = np.array([[float(row[channel]) for channel in channels] for row in rows])
    except (OSError, KeyError, IndexError, ValueError, TypeError) as error:
        raise EnvironmentProblemError(f"{path}: no run with datetime, channels and anomaly ({error})") from None
    messages = encode_readings(name, channels, times, values)
    return Run(name, len(channels), np.repeat(times, len(channels)), messages, labels)


def detect(run: Run, *, voters: Sequence[str] = VOTERS) -> NDArray[np.bool_]:
    """Return which rows of a run the engine alarms about."""
    engine = benchmark_engine(Tuning(calibration=CALIBRATION), voters, CALIBRATION)
    alarmed = np.zeros(len(run.labels), np.bool_)
    cut = CALIBRATION * run.channels
    for part in (slice(0, cut), slice(cut, None)):
        alarmed[alarms_of(engine, run.name, run.messages[part], run.times[part]) // run.channels] = True
    return alarmed


def evaluate(runs: Sequence[Run], *, voters: Sequence[str] = VOTERS) -> Report:
    """Stream all runs through the engine and compare with the labels."""
    counts: dict[str, dict[str, int]] = {}
    for run in runs:
        alarmed, labels = detect(run, voters=voters)[CALIBRATION:], run.labels[CALIBRATION:]
        counts[run.name] = {
            "true_positives": int((alarmed & labels).sum()),
            "false_positives": int((alarmed & ~labels).sum()),
            "missed": int((~alarmed & labels).sum()),
            "true_negatives": int((~alarmed & ~labels).sum()),
        }
    right, false, missed, quiet = (
        sum(count[name] for count in counts.values())
        for name in ("true_positives", "false_positives", "missed", "true_negatives")
    )
    return Report(
        f1=2 * right / max(2 * right + false + missed, 1),
        far=false / max(false + quiet, 1),
        mar=missed / max(missed + right, 1),
        runs=counts,
    )
