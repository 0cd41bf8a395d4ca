"""Bytes that were written with each schema version once can be read for ever.

After adding a version: ``REWRITE_GOLDEN=1 pytest tests/unit/kernel/test_golden_schemas.py`` writes its file. An
existing file is rewritten too; that it does not change is the point.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleetwatch import avro, schema_check

FOLDER = Path(__file__).resolve().parents[2] / "golden" / "schemas"


@pytest.mark.parametrize("name_and_version", sorted(avro.schema_ids()))
def test_golden_bytes_of_each_version_are_read(name_and_version: str):
    path = FOLDER / f"{name_and_version}.hex"
    if os.environ.get("REWRITE_GOLDEN") == "1":
        path.write_text(schema_check.encode_example(name_and_version).hex() + "\n")
    golden = bytes.fromhex(path.read_text())
    assert golden == schema_check.encode_example(name_and_version)
    name = name_and_version.rsplit(".v", 1)[0]
    record = avro.decode(golden, schema_check.record_types()[name], strict=True)
    if avro.latest_version(name) == name_and_version:
        assert avro.encode(record) == golden


def test_no_golden_file_is_without_its_schema():
    """Deleting or renaming a schema version would strand what was written with it."""
    assert {path.stem for path in FOLDER.glob("*.hex")} == set(avro.schema_ids())
