"""Files that people have into a recording of readings: CSV with a header line, or an object a line of JSON.

A mapping (YAML) says which column is what. Rows are put in the order of their times, and the broker's time of a row is
its event time: as if every device had sent at once.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import zlib
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fleetwatch import columns, topics
from fleetwatch.avro_check import FIRST_MS, LAST_MS
from fleetwatch.byte_column import ByteColumn
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.recording.disk import writing
from fleetwatch.recording.rows import Messages
from fleetwatch.recording.writer import RecordingWriter
from fleetwatch.records import SensorReading, to_millis
from producers.import_sort import SortedRuns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from fleetwatch.recording.manifest import Manifest

BLOCK_EVENTS: Final = 8192
CHUNK_ROWS: Final = 200_000
"""Rows of a file that are checked and sorted at a time."""
Format = Literal["csv", "jsonl"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Constant(_Strict):
    """The same text in every row."""

    constant: Annotated[str, Field(min_length=1)]


class Time(_Strict):
    """Where the time is. Texts without a zone are of ``zone``; numbers count since 1970 in ``unit``."""

    column: str
    unit: Literal["iso", "s", "ms", "us", "ns"] = "iso"
    zone: str = "UTC"

    @model_validator(mode="after")
    def _check(self) -> Time:
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"no time zone is called {self.zone}") from None
        return self


Text = str | Constant
"""The name of a column, or a constant."""


class Mapping(_Strict):
    """Which column is what.

    ``values`` instead of ``value`` is for tables with a column a channel: each becomes a device of its own, called
    ``<device>-<column>``, or as the column when no device is given.
    """

    device: Text | None = None
    time: Time
    value: str | None = None
    values: tuple[str, ...] = ()
    sensor_type: Text
    site: Text = Constant(constant="imported")
    unit: Text = Constant(constant="1")
    seq: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Mapping:
        if (self.value is None) == (not self.values):
            raise ValueError("give either value or values")
        if self.value is not None and self.device is None:
            raise ValueError("give device: a column, or {constant: NAME}")
        return self


@dataclass(frozen=True)
class Imported:
    """What was written, and how many rows had no value, or (if asked for) could not be read."""

    manifest: Manifest
    without_value: int
    unreadable: int


def read_chunks(path: Path, kind: Format) -> Iterator[pl.DataFrame]:
    """Read a file piece by piece, every column as text; nested values of JSON are left out.

    Raises:
        EnvironmentProblemError: it cannot be read; the text says why.

    """
    try:
        if kind == "csv":
            lines = pl.scan_csv(path, infer_schema=False)
        else:
            found = pl.scan_ndjson(path, infer_schema_length=None)  # all of it: a late 1.5 makes a column of floats
            simple = [name for name, kind in found.collect_schema().items() if not kind.is_nested()]
            lines = found.select(pl.col(simple).cast(pl.String))
        empty = pl.DataFrame(schema=lines.collect_schema())
        yield empty  # its columns are looked at even where no row follows
        yield from lines.collect_batches(chunk_size=CHUNK_ROWS, maintain_order=True)
    except OSError as error:
        raise EnvironmentProblemError(f"cannot read {path}: {error.strerror or error}") from None
    except pl.exceptions.PolarsError as error:
        raise EnvironmentProblemError(f"{path}: {str(error).splitlines()[0]}") from None


def import_file(  # noqa: PLR0913  # one command, all named
    path: Path, kind: Format, mapping: Mapping, out: Path, *, partitions: int = 4, skip_bad: bool = False
) -> Imported:
    """Make a recording of a file of any size, by way of a folder of sorted pieces in ``out`` that is removed.

    Raises:
        EnvironmentProblemError: a column is missing, a row cannot be read, or ``out`` cannot be written.

    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EnvironmentProblemError(f"{out} is not empty: import into a new folder")
    sorting = out / ".sorting"
    try:
        with writing(out, pl.exceptions.PolarsError):
            sorting.mkdir(parents=True)
            runs = SortedRuns(sorting)
            counted = _sort_rows(path, kind, mapping, runs, skip_bad=skip_bad)
            manifest = _write(_blocks(runs, are_numbered=mapping.seq is not None), out, partitions)
    finally:
        shutil.rmtree(sorting, ignore_errors=True)
        with contextlib.suppress(OSError):
            out.rmdir()  # when nothing was written
    return Imported(manifest, *counted)


def _sort_rows(path: Path, kind: Format, mapping: Mapping, runs: SortedRuns, *, skip_bad: bool) -> tuple[int, int]:
    """Check all rows and keep what can be used; return how many had no value and how many could not be read."""
    seen = usable = without_value = unreadable = 0
    problem = ""
    for chunk in read_chunks(path, kind):
        rows = _long_form(chunk, mapping, str(path), seen)
        seen += len(chunk)
        without_value += int(rows["value"].is_null().sum())
        rows, bad = _checked(rows.filter(pl.col("value").is_not_null()), mapping.time)
        if len(bad) and not problem:
            row, found = bad.sort("row").row(0)
            problem = f"row {row + 1} after the header: {found}"
        unreadable += len(bad)
        usable += len(rows)
        if skip_bad or not problem:
            runs.add(rows.drop("raw", "problem"))
    if problem and not skip_bad:
        raise EnvironmentProblemError(f"{path}: {problem} ({unreadable} such rows)")
    if usable == 0:
        raise EnvironmentProblemError(f"{path} has no row that can be used")
    return without_value, unreadable


def _blocks(runs: SortedRuns, *, are_numbered: bool) -> Iterator[pl.DataFrame]:
    """Yield the rows in order, ``BLOCK_EVENTS`` at a time, each numbered within its device if it is not yet."""
    counts = Counter[str]()
    kept: list[pl.DataFrame] = []
    for part in itertools.chain(runs.merged(), [None]):
        if part is not None:
            kept.append(part)
        while kept and (part is None or sum(map(len, kept)) >= BLOCK_EVENTS):
            joined = pl.concat(kept)
            block, rest = joined[:BLOCK_EVENTS], joined[BLOCK_EVENTS:]
            kept = [rest] if len(rest) else []
            yield block if are_numbered else _numbered(block, counts)


def _numbered(block: pl.DataFrame, counts: Counter[str]) -> pl.DataFrame:
    """Give the rows of each device the numbers that follow those in ``counts``, and add to it."""
    here = block.group_by("device").len()
    before = here.select("device", before=pl.Series([counts[device] for device in here["device"]], dtype=pl.Int64))
    counts.update(dict(here.iter_rows()))
    numbers = pl.int_range(pl.len(), dtype=pl.Int64).over("device") + pl.col("before")
    return block.join(before, on="device", how="left", maintain_order="left").with_columns(seq=numbers).drop("before")


def _long_form(table: pl.DataFrame, mapping: Mapping, name: str, first: int) -> pl.DataFrame:
    """Return row (``first`` and up), device, sensor_type, site, unit, time, value and seq, the others as text."""
    texts = {"device": mapping.device, "sensor_type": mapping.sensor_type, "site": mapping.site, "unit": mapping.unit}
    wanted = [column for column in texts.values() if isinstance(column, str)]
    wanted += [mapping.time.column, *([mapping.value] if mapping.value else mapping.values)]
    wanted += [mapping.seq] if mapping.seq else []
    missing = [column for column in wanted if column not in table.columns]
    if missing:
        raise EnvironmentProblemError(f"{name} has no column {missing[0]}; it has {', '.join(table.columns)}")

    def text(source: Text | None) -> pl.Expr:
        if source is None:
            return pl.lit("")
        return pl.col(source) if isinstance(source, str) else pl.lit(source.constant)

    common = {key: text(source).alias(key) for key, source in texts.items()}
    seq = pl.col(mapping.seq) if mapping.seq else pl.lit("0")
    table = table.with_row_index("row", offset=first)

    def channel(column: str, device: pl.Expr) -> pl.DataFrame:
        return table.select(
            pl.col("row").cast(pl.Int64),
            device.alias("device"),
            *(common[key] for key in ("sensor_type", "site", "unit")),
            pl.col(mapping.time.column).alias("time"),
            pl.col(column).alias("value"),
            seq.alias("seq"),
        )

    if mapping.value is not None:
        return channel(mapping.value, common["device"])
    prefix = pl.lit("") if mapping.device is None else pl.concat_str(common["device"], pl.lit("-"))
    return pl.concat([channel(column, pl.concat_str(prefix, pl.lit(column))) for column in mapping.values])


def _checked(rows: pl.DataFrame, time: Time) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows with their types, and (row, problem) of those that cannot be read."""
    times = pl.Series("time", _iso(rows["time"], time) if time.unit == "iso" else _numeric(rows["time"], time))
    values = rows["value"].str.strip_chars().cast(pl.Float64, strict=False)
    seqs = rows["seq"].cast(pl.Int64, strict=False)
    typed = rows.with_columns(times.alias("time"), values.alias("value"), seqs.alias("seq"), raw=rows["value"])
    problem = pl.coalesce(
        pl.when(pl.col("time").is_null()).then(pl.lit(f"column {time.column} is no time")),
        pl.when(pl.col("value").is_null()).then(pl.format("the value {} is no number", "raw")),
        pl.when(pl.col("seq").is_null()).then(pl.lit("seq is no whole number")),
        *(
            pl.when(pl.col(field).fill_null("").str.len_bytes() == 0).then(pl.lit(f"{field} is empty"))
            for field in ("device", "sensor_type", "site", "unit")
        ),
        *(
            pl.when(pl.col(field).str.contains("\x00", literal=True)).then(pl.lit(f"{field} contains U+0000"))
            for field in ("device", "sensor_type", "site", "unit")
        ),
    )
    typed = typed.with_columns(problem=problem)
    bad = typed.filter(pl.col("problem").is_not_null()).select("row", "problem")
    return typed.filter(pl.col("problem").is_null()), bad


def _iso(texts: pl.Series, time: Time) -> list[int | None]:
    zone = UTC if time.zone == "UTC" else ZoneInfo(time.zone)

    def millis(text: str | None) -> int | None:
        try:
            found = datetime.fromisoformat((text or "").strip())
        except ValueError:
            return None
        return to_millis((found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC))

    return [millis(text) for text in texts.to_list()]


def _numeric(texts: pl.Series, time: Time) -> pl.Series:
    per_ms = {"s": 0.001, "ms": 1.0, "us": 1000.0, "ns": 1_000_000.0}[time.unit]
    whole = texts.cast(pl.Int64, strict=False)
    found = texts.cast(pl.Float64, strict=False) / per_ms
    if per_ms > 1:  # whole numbers this large lose their last digits as floating ones
        found = pl.select(pl.coalesce(whole // int(per_ms), found.floor().cast(pl.Int64, strict=False))).to_series()
    millis = found.round().cast(pl.Int64, strict=False) if found.dtype == pl.Float64 else found
    frame = pl.DataFrame({"millis": millis})
    return frame.select(pl.when(pl.col("millis").is_between(FIRST_MS, LAST_MS)).then(pl.col("millis"))).to_series()


def _write(blocks: Iterable[pl.DataFrame], out: Path, partitions: int) -> Manifest:
    written = np.zeros(partitions, np.int64)
    last_ms = 0
    with RecordingWriter(out, {topics.READINGS: partitions}) as writer:
        for rows in blocks:
            keys, places = _partitioned(rows["device"], partitions)
            offsets = np.empty(len(rows), np.int64)
            for number in range(partitions):
                mine = places == number
                offsets[mine] = written[number] + np.arange(mine.sum())
            written += np.bincount(places, minlength=partitions)
            times = rows["time"].to_numpy().astype(np.int64)
            last_ms = int(times[-1])
            writer.append(topics.READINGS, Messages(places, offsets, times, keys, _encode(rows)))
        return writer.close(last_ms)


def _partitioned(devices: pl.Series, partitions: int) -> tuple[ByteColumn, NDArray[np.int64]]:
    """Return the keys, and the partitions that librdkafka's ``consistent`` partitioner gives them (CRC-32)."""
    names, codes = _coded(devices)
    places = np.array([zlib.crc32(name) % partitions for name in names], np.int64)
    return ByteColumn.of(names).take(codes), places[codes]


def _coded(texts: pl.Series) -> tuple[list[bytes], NDArray[np.int64]]:
    """Return the different texts in order, and for each row which of them it is."""
    names = texts.unique().sort()
    codes = texts.rank("dense").to_numpy().astype(np.int64) - 1
    return [name.encode() for name in names.to_list()], codes


def _encode(rows: pl.DataFrame) -> ByteColumn:
    fields = {"device_id": "device", "sensor_type": "sensor_type", "site": "site", "unit": "unit"}
    coded = {field: _coded(rows[column]) for field, column in fields.items()}
    joined = ByteColumn.of([name for names, _ in coded.values() for name in names])
    batch = columns.new_batch(SensorReading, len(rows), joined.buffer)
    slots, first = batch.layout.slots, 0
    for field, (names, codes) in coded.items():
        batch.ints[slots[field]] = joined.starts[first + codes]
        batch.ints[slots[field] + 1] = joined.lengths[first + codes]
        first += len(names)
    batch.ints[slots["event_time"]] = rows["time"].to_numpy()
    batch.ints[slots["seq"]] = rows["seq"].to_numpy()
    batch.floats[slots["value"]] = rows["value"].to_numpy()
    return columns.encode_batch(batch, SensorReading)  # quality 0: GOOD
