"""Recordings as tables for other tools: a file of parquet or CSV for every file of the recording."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import polars as pl

from fleetwatch import avro, avro_layout, columns, row_status
from fleetwatch.byte_column import ByteColumn
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.recording import form as forms
from fleetwatch.recording.disk import writing
from fleetwatch.recording.reader import part_rows
from fleetwatch.recording.rows import NO_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from fleetwatch.columns import Batch
    from fleetwatch.recording.reader import Recording
    from fleetwatch.recording.rows import Rows

Format = Literal["parquet", "csv"]
_TIME: Final = pl.Datetime("ms", "UTC")


def export(recording: Recording, topic: str, out: Path, kind: Format, advance: Callable[[int], None]) -> list[Path]:
    """Write a topic's files as tables into a folder; return what was written.

    Columns are partition, offset, broker_time and key, then the record's fields (those of nested records with a dot),
    then ``raw``: the bytes of a value that is no record of the topic.

    Raises:
        EnvironmentProblemError: the topic is not in the recording, or the folder cannot be written.

    """
    if topic not in recording.topics:
        raise EnvironmentProblemError(f"{recording.folder} has no {topic}; it has {', '.join(recording.topics)}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblemError(f"cannot make {out}: {error.strerror}") from None
    written = []
    for path, part in recording.files(topic):
        frames = []
        for rows in part_rows(path, is_closed=part is not None):
            frames.append(frame_of(rows))
            advance(len(rows))
        if not frames:
            continue
        target = out / f"{topic}-{path.stem}.{kind}"
        table = pl.concat(frames)
        with writing(out, pl.exceptions.ComputeError):
            if kind == "parquet":
                table.write_parquet(target)
            else:
                table.with_columns(pl.col(pl.Binary).bin.encode("hex")).write_csv(target)
        written.append(target)
    return written


def frame_of(rows: Rows) -> pl.DataFrame:
    """Return the rows of a block as a table."""
    values = rows.values()
    place = {
        "partition": pl.Series(rows.partitions),
        "offset": pl.Series(rows.offsets),
        "broker_time": pl.Series(rows.broker_ms).cast(_TIME),
        "key": pl.Series(_texts(rows.keys()), dtype=pl.String),
    }
    record: dict[str, pl.Series] = {}
    is_record = np.zeros(len(rows), np.bool_)
    record_type = forms.record_of(rows.form.topic)
    if record_type is not None and _has_columns(avro.schema_name(record_type)):
        batch = columns.decode_batch(values, ByteColumn.repeat(b"x", len(rows)), record_type, max_bytes=NO_LIMIT)
        is_record = batch.status == row_status.OK
        for leaf in batch.layout.leaves:
            name = f"value.{leaf.name}" if leaf.name in place else leaf.name
            record[name] = _column(batch, leaf, is_record)
    raw: list[bytes | None] = [None] * len(rows)
    for row in np.flatnonzero(~is_record).tolist():
        raw[row] = values[row]
    return pl.DataFrame(place | record | {"raw": pl.Series(raw, dtype=pl.Binary)})


def _has_columns(name: str) -> bool:
    try:
        avro_layout.layout_named(name)
    except TypeError:
        return False
    return True


def _column(batch: Batch, leaf: avro_layout.Leaf, is_record: NDArray[np.bool_]) -> pl.Series:
    present = is_record if leaf.name not in batch.layout.present else is_record & batch.is_present(leaf.name)
    if leaf.op in (avro_layout.OP_STRING, avro_layout.OP_BYTES):
        starts, lengths = batch.strings(leaf.name)
        column = ByteColumn(batch.buffer, starts, np.where(present, lengths, -1))
        if leaf.op == avro_layout.OP_BYTES:
            return pl.Series(column.to_list(), dtype=pl.Binary)
        return pl.Series(_texts(column), dtype=pl.String)
    if leaf.op in (avro_layout.OP_DOUBLE, avro_layout.OP_FLOAT):
        numbers = pl.Series(batch.doubles(leaf.name))
    elif leaf.op == avro_layout.OP_ENUM:
        codes = np.where(present, batch.numbers(leaf.name), 0)
        numbers = pl.Series(list(leaf.symbols)).gather(codes)
    else:
        numbers = pl.Series(batch.numbers(leaf.name))
        if leaf.op == avro_layout.OP_TIME:
            numbers = numbers.cast(_TIME)
        elif leaf.op == avro_layout.OP_BOOL:
            numbers = numbers.cast(pl.Boolean)
    found: pl.Series = pl.select(pl.when(pl.Series(present)).then(numbers)).to_series()
    return found


def _texts(column: ByteColumn) -> list[Any]:
    return [None if text is None else text.decode(errors="backslashreplace") for text in column.to_list()]
