"""`fleetwatch schemas check`: nothing is wrong with ours, and what is planted is found."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from fleetwatch import avro, schema_check
from tests.unit.kernel.schema_folder import using_schemas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def copied(tmp_path: Path) -> Iterator[Path]:
    """A copy of our schemas."""
    folder = tmp_path / "schemas"
    shutil.copytree(avro.SCHEMA_DIR, folder)
    with using_schemas(folder):
        yield folder


def edit(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_our_schemas_are_in_order():
    assert schema_check.problems() == []


def test_every_schema_has_a_record_class():
    assert schema_check.record_types().keys() == {key.rsplit(".v", 1)[0] for key in avro.schema_ids()}


def test_a_schema_without_an_id(copied: Path):
    edit(copied / "ids.json", lambda ids: ids.pop("alert.v1"))
    assert schema_check.problems() == ["alert.v1.avsc has no id in ids.json"]


def test_an_id_without_a_schema(copied: Path):
    (copied / "alert.v1.avsc").unlink()
    assert schema_check.problems() == ["ids.json names alert.v1, which is no file"]


def test_an_id_that_is_given_twice(copied: Path):
    edit(copied / "ids.json", lambda ids: ids.update({"alert.v1": ids["window_count.v1"]}))
    assert "ids.json gives one id twice" in schema_check.problems()


def test_a_schema_that_is_no_json(copied: Path):
    (copied / "alert.v1.avsc").write_text("{")
    (problem,) = schema_check.problems()
    assert problem.startswith("alert.v1.avsc: ")


def test_a_schema_that_is_no_avro(copied: Path):
    edit(copied / "alert.v1.avsc", lambda schema: schema["fields"][0].update(type="strong"))
    problem, newer = schema_check.problems()
    assert problem.startswith("alert.v1.avsc: ")
    assert "strong" in problem
    assert newer.startswith("alert.v2 cannot read alert.v1: alert_id: ")


def test_a_schema_without_a_record_class(copied: Path):
    (copied / "alarm.v1.avsc").write_text((copied / "alert.v1.avsc").read_text())
    edit(copied / "ids.json", lambda ids: ids.update({"alarm.v1": 9}))
    assert schema_check.problems() == ["alarm.v1.avsc has no record class"]


def test_fields_that_the_record_class_does_not_have(copied: Path):
    edit(copied / "window_count.v1.avsc", lambda s: s["fields"].append({"name": "more", "type": "int", "default": 0}))
    edit(copied / "examples" / "window_count.v1.json", lambda example: example.update(more=1))
    found = schema_check.problems()
    assert found[0] == "window_count.v1.avsc and its record class differ in more"
    assert "cannot be read" in found[1]


def test_symbols_that_the_record_class_does_not_have(copied: Path):
    edit(copied / "sensor_reading.v1.avsc", lambda schema: schema["fields"][-1]["type"]["symbols"].append("STALE"))
    assert schema_check.problems() == [
        "sensor_reading.v1.avsc and its record class differ in the symbols of Quality",
    ]


def test_a_missing_example(copied: Path):
    (copied / "examples" / "alert.v1.json").unlink()
    assert schema_check.problems() == ["examples/alert.v1.json is missing"]


@pytest.mark.parametrize(
    "change",
    [
        lambda example: example.pop("device_id"),
        lambda example: example.update(quality="FINE"),
        lambda example: example.update(seq="seven"),
        lambda example: example.update(event_time=10**18),
    ],
)
def test_an_example_that_does_not_fit(copied: Path, change: Callable[[Any], object]):
    edit(copied / "examples" / "sensor_reading.v1.json", change)
    (problem,) = schema_check.problems()
    assert problem.startswith("examples/sensor_reading.v1.json does not fit: ")
