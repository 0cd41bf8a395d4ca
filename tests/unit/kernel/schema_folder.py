"""A folder of schemas for one test, in the place of ours."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fleetwatch import avro, avro_layout, columns
from fleetwatch.recording import form

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CACHED = (
    avro.schema_ids,
    avro.load_schema,
    avro.latest_version,
    avro.schema_by_id,
    avro._parsed,
    avro_layout.layout_named,
    avro_layout.reader_program,
    avro_layout.writer_program,
    columns._lacking,
    columns._default_texts,
    form.form_of,
)


def write_schemas(folder: Path, schemas: dict[str, dict[str, Any]], first_id: int = 1001) -> None:
    """Write schema files, such as ``sensor_reading.v1``, numbered from ``first_id`` in the given order."""
    for name, schema in schemas.items():
        (folder / f"{name}.avsc").write_text(json.dumps(schema))
    (folder / "ids.json").write_text(json.dumps({name: first_id + k for k, name in enumerate(schemas)}))


@contextmanager
def using_schemas(folder: Path) -> Iterator[Path]:
    """Read schemas from this folder; nothing that was cached before is used, and nothing stays cached."""
    before = avro.SCHEMA_DIR
    _clear()
    avro.SCHEMA_DIR = folder
    try:
        yield folder
    finally:
        avro.SCHEMA_DIR = before
        _clear()


def _clear() -> None:
    for function in _CACHED:
        function.cache_clear()
