"""Recorded series: CSV files with the columns timestamp and value, and the labelled windows in them."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from fleetwatch.errors import EnvironmentProblemError
from producers import typed_yaml

SHIPPED_SERIES: Final = Path(__file__).resolve().parent / "data" / "series.yaml"

Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]


class SeriesEntry(BaseModel):
    """One series and the device that it becomes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device_id: Name
    file: Path = Field(description="CSV, relative to this YAML file.")
    sensor_type: Name
    unit: str
    site: Name
    start_row: int = Field(0, ge=0, description="The first row that is sent, counted from 0.")
    rate_hz: float = Field(20.0, gt=0, le=1000, description="Rows in a second.")


class SeriesFile(BaseModel):
    """Which series are replayed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: Path | None = Field(None, description="JSON: file -> list of [first, last] timestamps, both inclusive.")
    labels_root: Path = Field(Path(), description="The names in the labels are relative to this folder.")
    series: tuple[SeriesEntry, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Series:
    """One series in memory. ``windows`` are its labelled anomalies as first and last row, both inclusive."""

    entry: SeriesEntry
    values: tuple[float, ...]
    windows: tuple[tuple[int, int], ...]

    def magnitude(self, first: int, last: int) -> float:
        """Return how far a window goes from the mean of the series, in its standard deviations."""
        mean = math.fsum(self.values) / len(self.values)
        deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in self.values) / len(self.values))
        furthest = max(abs(v - mean) for v in self.values[first : last + 1])
        return round(furthest / deviation, 2) if deviation > 0 else 0.0


def load_series(path: Path = SHIPPED_SERIES) -> list[Series]:
    """Read a series file with everything that it names.

    Raises:
        EnvironmentProblemError: a file is missing or wrong; one line says which and where.

    """
    listed = typed_yaml.load(path, SeriesFile)
    ids = [entry.device_id for entry in listed.series]
    if len(set(ids)) != len(ids):
        raise EnvironmentProblemError(f"{path}: a device_id is used twice")
    folder = path.parent
    labels = {} if listed.labels is None else _read_labels(folder / listed.labels)
    loaded = []
    for entry in listed.series:
        times, values = _read_csv(folder / entry.file)
        if entry.start_row >= len(values):
            raise EnvironmentProblemError(f"{path}: {entry.device_id}: the file has only {len(values)} rows")
        name = entry.file.relative_to(listed.labels_root) if listed.labels is not None else entry.file
        windows = [_rows_of(times, first, last) for first, last in labels.get(name.as_posix(), [])]
        loaded.append(Series(entry, tuple(values), tuple(w for w in windows if w is not None)))
    return loaded


def _rows_of(times: list[datetime], first: datetime, last: datetime) -> tuple[int, int] | None:
    rows = [row for row, time in enumerate(times) if first <= time <= last]
    return (rows[0], rows[-1]) if rows else None


def _read_csv(path: Path) -> tuple[list[datetime], list[float]]:
    times: list[datetime] = []
    values: list[float] = []
    line = 1
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            reader = csv.reader(lines)
            if next(reader, None) != ["timestamp", "value"]:
                raise EnvironmentProblemError(f"{path}: the first line must be: timestamp,value")
            for row in reader:
                line = reader.line_num
                time, value = row
                times.append(_time(time))
                values.append(_number(value))
    except OSError as error:
        raise EnvironmentProblemError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise EnvironmentProblemError(f"{path}, line {line}: {error}") from None
    if not values:
        raise EnvironmentProblemError(f"{path} has no rows")
    return times, values


def _read_labels(path: Path) -> dict[str, list[tuple[datetime, datetime]]]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return {name: [(_time(a), _time(b)) for a, b in windows] for name, windows in raw.items()}
    except OSError as error:
        raise EnvironmentProblemError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise EnvironmentProblemError(f"{path}: no list of windows for each file: {error}") from None


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _time(text: str) -> datetime:
    """Return a timestamp of the files; they name no zone, and only their order counts here."""
    return datetime.fromisoformat(text)
