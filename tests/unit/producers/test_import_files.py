from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from fleetwatch import avro, topics
from fleetwatch.cli.main import build_app
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.recording.reader import Recording, verify
from fleetwatch.records import SensorReading, to_millis
from producers import import_files, import_sort, typed_yaml
from producers.import_files import Mapping, import_file
from tests.unit.recording.recordings import messages, readings, write

if TYPE_CHECKING:
    from pathlib import Path

PLAIN: dict[str, Any] = {
    "device": "machine",
    "time": {"column": "at"},
    "value": "reading",
    "sensor_type": "what",
    "unit": {"constant": "Cel"},
}


def load(folder: Path, text: str, kind: Any = "csv", **changes: Any) -> list[SensorReading]:
    """Import a text; return what the recording holds, in the order of time."""
    source = folder / "file"
    source.write_text(text)
    mapping = typed_yaml.check(PLAIN | changes, Mapping, "mapping")
    import_file(source, kind, mapping, folder / "rec")
    assert verify(folder / "rec").problems == []
    found = [
        avro.decode(value, SensorReading, strict=True)
        for rows in Recording(folder / "rec").rows(topics.READINGS)
        for value in rows.values().to_list()
    ]
    return sorted(found, key=lambda one: one.event_time)


CSV = "machine,at,reading,what\nb,2026-01-01T00:00:02Z,2.5,temp\na,2026-01-01T00:00:01Z,-1e3,temp\n"


def test_rows_become_readings_in_the_order_of_time(tmp_path: Path):
    first, second = load(tmp_path, CSV)
    assert (first.device_id, first.value, first.sensor_type, first.unit) == ("a", -1000.0, "temp", "Cel")
    assert (second.device_id, second.value, second.site) == ("b", 2.5, "imported")
    assert to_millis(second.event_time) - to_millis(first.event_time) == 1000


def test_devices_are_partitioned_as_a_producer_would(tmp_path: Path):
    text = "machine,at,reading,what\n" + "".join(f"d{number % 9},{number},1,temp\n" for number in range(500))
    load(tmp_path, text, time={"column": "at", "unit": "s"})
    offsets: dict[int, list[int]] = {}
    for rows in Recording(tmp_path / "rec").rows(topics.READINGS):
        for key, partition, offset in zip(rows.keys(), rows.partitions.tolist(), rows.offsets.tolist(), strict=True):
            assert key is not None
            assert partition == zlib.crc32(key) % 4
            offsets.setdefault(partition, []).append(offset)
    assert all(some == list(range(len(some))) for some in offsets.values())


@pytest.mark.parametrize(
    ("unit", "text", "millis"),
    [
        ("s", "1767225600", 1_767_225_600_000),
        ("s", "1767225600.25", 1_767_225_600_250),
        ("ms", "1767225600123", 1_767_225_600_123),
        ("us", "1767225600123999", 1_767_225_600_123),
        ("ns", "1767225600123999999", 1_767_225_600_123),
        ("iso", "2026-01-01", 1_767_225_600_000),
        ("iso", "2026-01-01 01:00:00+01:00", 1_767_225_600_000),
    ],
)
def test_times_are_read_in_their_unit(tmp_path: Path, unit: str, text: str, millis: int):
    (one,) = load(tmp_path, f"machine,at,reading,what\na,{text},1,t\n", time={"column": "at", "unit": unit})
    assert to_millis(one.event_time) == millis


def test_times_without_a_zone_are_of_the_one_that_is_named(tmp_path: Path):
    text = "machine,at,reading,what\na,2026-07-01 02:00:00,1,t\n"
    (one,) = load(tmp_path, text, time={"column": "at", "zone": "Europe/Vienna"})
    assert one.event_time.isoformat() == "2026-07-01T00:00:00+00:00"


def test_readings_of_one_device_are_numbered_unless_a_column_does(tmp_path: Path):
    text = "machine,at,reading,what,n\na,3,1,t,7\nb,2,1,t,8\na,1,1,t,9\n"
    time = {"column": "at", "unit": "s"}
    (tmp_path / "x").mkdir()
    assert [one.seq for one in load(tmp_path / "x", text, time=time)] == [0, 0, 1]
    assert [one.seq for one in load(tmp_path, text, time=time, seq="n")] == [9, 8, 7]


def test_a_column_a_channel_becomes_a_device_a_channel(tmp_path: Path):
    text = "at,oil,air\n1,50,20\n2,,21\n"
    found = load(
        tmp_path,
        text,
        time={"column": "at", "unit": "s"},
        value=None,
        values=["oil", "air"],
        device={"constant": "press"},
        sensor_type={"constant": "temp"},
    )
    assert [(one.device_id, one.value) for one in found] == [("press-oil", 50), ("press-air", 20), ("press-air", 21)]


def test_lines_of_json(tmp_path: Path):
    text = '{"machine": "a", "at": 1.5, "reading": 2, "what": "t", "more": {"x": 1}}\n{"machine": "a", "at": 2}\n'
    (one,) = load(tmp_path, text, "jsonl", time={"column": "at", "unit": "s"})
    assert (one.device_id, one.value, to_millis(one.event_time)) == ("a", 2.0, 1500)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("order", ["shuffled", "sorted", "backwards"])
def test_a_file_of_many_pieces_gives_the_same_bytes_as_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, order: str
) -> None:
    """Sorted and merged piece by piece: times, ties, numbers, offsets and blocks are as if all were in memory."""
    random = np.random.default_rng(7)
    times = random.integers(0, 300, 2000)  # many rows have the same time
    if order != "shuffled":
        times = np.sort(times)[:: 1 if order == "sorted" else -1]
    columns = {"machine": [f"d{n % 13}" for n in range(2000)], "at": times, "what": ["t"] * 2000}
    table = pl.DataFrame(columns | {name: random.normal(size=2000).round(3) for name in ("oil", "air")})
    table = table.with_columns(pl.when(pl.col("oil") > 0.5).then(None).otherwise("oil").alias("oil"))
    table.write_csv(tmp_path / "csv")
    table.write_ndjson(tmp_path / "jsonl")
    changes = {"value": None, "values": ["oil", "air"], "time": {"column": "at", "unit": "ms"}}
    mapping = typed_yaml.check(PLAIN | changes, Mapping, "mapping")
    monkeypatch.setattr(import_files, "BLOCK_EVENTS", 500)
    whole = import_file(tmp_path / kind, kind, mapping, tmp_path / "whole")
    monkeypatch.setattr(import_files, "CHUNK_ROWS", 150)
    monkeypatch.setattr(import_sort, "MERGE_ROWS", 17)
    pieces = import_file(tmp_path / kind, kind, mapping, tmp_path / "pieces")
    assert pieces == whole
    assert whole.without_value > 0
    for file in (tmp_path / "whole").rglob("*.avro"):
        assert (tmp_path / "pieces" / file.relative_to(tmp_path / "whole")).read_bytes() == file.read_bytes()
    assert not (tmp_path / "pieces" / ".sorting").exists()
    assert verify(tmp_path / "pieces").problems == []


def test_an_import_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblemError):
        load(tmp_path, CSV + "a,soon,1,t\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "rec").mkdir()
    (tmp_path / "rec" / "mine").touch()
    with pytest.raises(EnvironmentProblemError, match="is not empty"):
        load(tmp_path, CSV)
    assert (tmp_path / "rec" / "mine").exists()


WRONG: dict[str, tuple[str, str]] = {
    "no such column": ("machine,at,what\n", "has no column reading; it has machine, at, what"),
    "no time": (CSV + "a,soon,1,t\n", r"row 3 after the header: column at is no time \(1 such rows\)"),
    "no number": (CSV + "a,2026-01-01,warm,t\n", "row 3 after the header: the value warm is no number"),
    "no device": (CSV + ",2026-01-01,1,t\n", "row 3 after the header: device is empty"),
    "nothing": ("machine,at,reading,what\n", "no row that can be used"),
    "empty": ("", "empty CSV"),
    "ragged": (CSV + "a,b,c,d,e,f\n", "found more fields"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, name: str):
    text, said = WRONG[name]
    with pytest.raises(EnvironmentProblemError, match=said) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_wrong_mapping_is_one_line():
    for changes, said in (
        ({"value": None}, "give either value or values"),
        ({"device": None}, "give device"),
        ({"time": {"column": "at", "zone": "Nowhere/City"}}, "no time zone is called Nowhere/City"),
        ({"colour": "red"}, "colour"),
    ):
        with pytest.raises(EnvironmentProblemError, match=said):
            typed_yaml.check(PLAIN | changes, Mapping, "mapping")


def test_the_commands_import_and_export(tmp_path: Path):
    """What went in comes out; bad rows are counted when they may be left out."""
    (tmp_path / "file.csv").write_text(CSV + "a,soon,1,t\nc,2026-01-01,,t\n")
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(PLAIN))

    def call(*arguments: object) -> Any:
        return CliRunner().invoke(build_app(), [str(argument) for argument in arguments])

    given = ("import", "csv", tmp_path / "file.csv", "--mapping", tmp_path / "map.yaml", "--out", tmp_path / "rec")
    assert "column at is no time" in str(call(*given).exception)
    done = call(*given, "--skip-bad", "--json")
    assert json.loads(done.stdout) == {"command": "import", "events": 2, "without_value": 1, "unreadable": 1}
    assert "is not empty" in str(call(*given, "--skip-bad").exception)
    for kind, read in (("parquet", pl.read_parquet), ("csv", pl.read_csv)):
        made = call("export", tmp_path / "rec", "--out", tmp_path / kind, "--format", kind)
        table = read(made.stdout.strip()).sort("device_id")
        assert table["device_id"].to_list() == ["a", "b"]
        assert table["value"].to_list() == [-1000.0, 2.5]
        assert table["quality"].to_list() == ["GOOD", "GOOD"]


def test_an_export_holds_what_is_no_record_as_bytes(tmp_path: Path):
    good = readings(2)
    mixed = messages([*good.values, b"no avro", None], keys=[b"a", None, b"\xff", b"d"])
    write(tmp_path / "rec", [mixed])
    made = CliRunner().invoke(build_app(), ["export", str(tmp_path / "rec"), "--out", str(tmp_path / "out")])
    table = pl.read_parquet(made.stdout.strip())
    assert table["raw"].to_list() == [None, None, b"no avro", None]
    assert table["device_id"].to_list() == ["press-0", "press-1", None, None]
    assert table["value"].to_list() == [20.0, 21.0, None, None]
    assert table["key"].to_list() == ["a", None, "\\xff", "d"]
    assert table["event_time"].dtype == pl.Datetime("ms", "UTC")
    assert np.array_equal(table["offset"], [0, 1, 2, 3])


def test_names_that_are_there_twice_are_told_apart(tmp_path: Path):
    """A dead letter has a partition and an offset of its own: those of the event that was refused."""
    from fleetwatch.schema_check import encode_example

    write(tmp_path / "rec", [messages([encode_example("dead_letter.v1")])], topics.DEAD_LETTERS)
    made = CliRunner().invoke(
        build_app(), ["export", str(tmp_path / "rec"), "--topic", topics.DEAD_LETTERS, "--out", str(tmp_path / "out")]
    )
    table = pl.read_parquet(made.stdout.strip())
    assert {"offset", "value.offset", "reason", "raw_value"} <= set(table.columns)
