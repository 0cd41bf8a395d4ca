"""The Numenta Anomaly Benchmark, streamed through the production engine.

Each series is a device that sends its rows, with their own times, into a lane of its own. A detection is a reading with
the verdict ANOMALY. What the benchmark tells every detector, this one is told too: how long the probationary period
of the series is; it is the setting ``calibration`` of the series' sensor type. The batch model, where one
votes, is trained on that period. A threshold is tried by running the engine with that ``strictness``.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.records import to_millis
from streams.evaluation.engine import alarms_of, benchmark_engine, encode_readings
from streams.evaluation.nab_score import PROFILES, normalised, probation, score_series
from streams.tuning import VOTERS, Tuning

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fleetwatch.byte_column import ByteColumn

STRICTNESS: Final = tuple(round(0.1 * step, 1) for step in range(-8, 13))
"""Thresholds that are tried for the best one, relative to the shipped one."""


@dataclass(frozen=True)
class Series:
    """One series: times (ms), values, readings as on the wire, and labelled windows as rows, both inclusive."""

    name: str
    times: NDArray[np.int64]
    values: NDArray[np.float64]
    messages: ByteColumn
    windows: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.times)


def load(folder: Path) -> list[Series]:
    """Read every labelled series below ``folder`` (data/ and labels/combined_windows.json).

    Raises:
        EnvironmentProblemError: the folder is not laid out like that, or a file is damaged.

    """
    labels = folder / "labels" / "combined_windows.json"
    try:
        windows = json.loads(labels.read_text(encoding="utf-8"))
    except OSError as error:
        raise EnvironmentProblemError(f"cannot read {labels}: {error.strerror}") from None
    except ValueError as error:
        raise EnvironmentProblemError(f"{labels} is no JSON: {error}") from None
    found = [
        _load_series(path, name, windows[name])
        for name in sorted(windows)
        if (path := folder / "data" / name).is_file()
    ]
    if not found:
        raise EnvironmentProblemError(f"no series of {labels} lies below {folder / 'data'}")
    return found


def _load_series(path: Path, name: str, windows: Sequence[tuple[str, str]]) -> Series:
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = [(_time(row["timestamp"]), float(row["value"])) for row in csv.DictReader(lines)]
        bounds = [(_time(first), _time(last)) for first, last in windows]
    except (KeyError, ValueError, TypeError) as error:
        raise EnvironmentProblemError(f"{path}: no columns timestamp and value, or a bad one ({error})") from None
    times = np.array([to_millis(time) for time, _ in rows], np.int64)
    values = np.array([[value] for _, value in rows])
    within = [
        np.flatnonzero((times >= to_millis(first)) & (times <= to_millis(last))) for first, last in sorted(bounds)
    ]
    return Series(
        name,
        times,
        values[:, 0],
        encode_readings(name, [name], times, values),
        tuple((int(found[0]), int(found[-1])) for found in within if len(found)),
    )


def _time(text: str) -> datetime:
    """Return a time of the files; they name no zone, and only the time of day and distances count."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def detect(series: Series, *, strictness: float = 0.0, voters: Sequence[str] = VOTERS) -> list[int]:
    """Return the rows of a series at which the engine alarms."""
    calibration = probation(len(series))
    tuning = Tuning(calibration=max(calibration, 20), ready_after=max(calibration, 20), strictness=strictness)
    engine = benchmark_engine(tuning, voters, calibration)
    alarms: list[int] = []
    for part in (slice(0, calibration), slice(calibration, len(series))):
        alarms += alarms_of(engine, series.name, series.messages[part], series.times[part]).tolist()
    return alarms


@dataclass(frozen=True)
class Report:
    """Scores of a corpus at the best threshold and at the shipped one, and what was detected at the shipped one."""

    best: dict[str, float]
    best_strictness: dict[str, float]
    default: dict[str, float]
    files: dict[str, dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "profiles": self.best,
            "at_default_threshold": self.default,
            "best_strictness": self.best_strictness,
            "files": self.files,
        }


def evaluate(
    corpus: Sequence[Series], *, voters: Sequence[str] = VOTERS, strictness: Iterable[float] = STRICTNESS
) -> Report:
    """Stream a corpus through the engine at every threshold and score what it detects."""
    tried = {step: [detect(series, strictness=step, voters=voters) for series in corpus] for step in {0.0, *strictness}}
    scores = {step: _scores(corpus, found) for step, found in tried.items()}
    best = {name: max(sorted(scores), key=lambda step: scores[step][name]) for name in PROFILES}
    return Report(
        best={name: scores[step][name] for name, step in best.items()},
        best_strictness=best,
        default=scores[0.0],
        files={
            series.name: {
                "rows": len(series),
                "windows": len(series.windows),
                "detections": [row for row in found if row >= probation(len(series))],
                "found": sum(
                    any(first <= row <= last for row in found if row >= probation(len(series)))
                    for first, last in series.windows
                ),
            }
            for series, found in zip(corpus, tried[0.0], strict=True)
        },
    )


def _scores(corpus: Sequence[Series], detections: Sequence[Sequence[int]]) -> dict[str, float]:
    windows = sum(len(series.windows) for series in corpus)
    return {
        name: round(
            normalised(
                sum(
                    score_series(found, series.windows, len(series), profile)
                    for series, found in zip(corpus, detections, strict=True)
                ),
                windows,
                profile,
            ),
            2,
        )
        for name, profile in PROFILES.items()
    }
