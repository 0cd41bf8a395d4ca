from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import fastavro
import numpy as np
import pytest

from fleetwatch import avro, topics
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.recording import kernels, manifest, reader
from fleetwatch.recording.container import DamagedError, blocks_path
from fleetwatch.recording.form import form_of
from fleetwatch.recording.reader import Recording
from fleetwatch.recording.rows import Rows, encode_rows, read_payload
from fleetwatch.recording.writer import RecordingWriter
from fleetwatch.records import (
    AlertAction,
    CameraDetection,
    Metric,
    ModelStatus,
    ModelVersion,
    from_millis,
    to_millis,
)
from fleetwatch.schema_check import encode_example
from tests.unit.kernel.schema_folder import using_schemas, write_schemas
from tests.unit.recording.recordings import START_MS, messages, reading, readings, write

if TYPE_CHECKING:
    from pathlib import Path

TOPIC = topics.READINGS


def rows_of(folder: Path, topic: str = TOPIC) -> list[Rows]:
    return list(Recording(folder).rows(topic))


def offsets_of(folder: Path) -> list[int]:
    return [offset for rows in rows_of(folder) for offset in rows.offsets.tolist()]


def part(folder: Path, number: int = 0, topic: str = TOPIC) -> Path:
    return folder / topic / f"{number:05}.avro"


# --- what is written is what is read


def test_another_library_reads_the_records_without_us(tmp_path: Path):
    """The writer's schema is inside: fastavro gives device, value and times of each row."""
    write(tmp_path, [readings(3)])
    with part(tmp_path).open("rb") as file:
        found = list(fastavro.reader(file))
    assert [row["offset"] for row in found] == [0, 1, 2]
    assert [row["value"]["device_id"] for row in found] == ["press-0", "press-1", "press-2"]
    assert found[1]["key"] == b"press-1"
    assert found[1]["value"]["value"] == 21.0
    assert found[1]["event_time"] == found[1]["value"]["event_time"] == from_millis(START_MS + 10)
    assert found[1]["broker_time"] == from_millis(START_MS + 60)


AWKWARD: dict[str, bytes | None] = {
    "a reading": avro.encode(reading(1)),
    "no value": None,
    "empty": b"",
    "no Avro": b"\xff\xfe",
    "a frame alone": avro.encode(reading(1))[:5],
    "truncated": avro.encode(reading(1))[:-1],
    "trailing": avro.encode(reading(1)) + b"x",
    "unknown schema": b"\x00\x00\x00\x00\x07" + avro.encode(reading(1))[5:],
    "another record": encode_example("camera_detection.v1"),
    "large": b"\x00" * 200_000,
}


@pytest.mark.parametrize("value", AWKWARD.values(), ids=AWKWARD)
def test_any_value_comes_back_to_the_byte(tmp_path: Path, value: bytes | None):
    write(tmp_path, [messages([avro.encode(reading(0)), value, avro.encode(reading(2))])])
    (rows,) = rows_of(tmp_path)
    assert rows.values().to_list() == [avro.encode(reading(0)), value, avro.encode(reading(2))]


def test_keys_and_headers_come_back(tmp_path: Path):
    headers = [None, [("a", b"1"), ("a", None)], [], [("é", b"")]]
    write(tmp_path, [messages([b"v"] * 4, keys=[None, b"", b"k", b"\xff"], headers=headers)])
    (rows,) = rows_of(tmp_path)
    assert rows.keys().to_list() == [None, b"", b"k", b"\xff"]
    assert rows.headers() == [None, [("a", b"1"), ("a", None)], None, [("é", b"")]]
    with part(tmp_path).open("rb") as file:
        assert [row["headers"] for row in fastavro.reader(file)][1] == [
            {"name": "a", "value": b"1"},
            {"name": "a", "value": None},
        ]


RECORDS = {
    topics.READINGS: ("sensor_reading.v1", True),
    topics.DETECTIONS: ("camera_detection.v1", True),
    topics.ALERTS: ("alert.v1", True),
    topics.MODELS: ("model_version.v1", False),
    topics.DEAD_LETTERS: ("dead_letter.v1", True),
    "elsewhere": ("sensor_reading.v1", None),
}


@pytest.mark.parametrize("topic", RECORDS)
def test_records_of_every_kind_are_kept_as_records(tmp_path: Path, topic: str):
    """Also those with an array, without an event time; in a topic of others the bytes are kept as they are."""
    schema, has_time = RECORDS[topic]
    value = encode_example(schema)
    write(tmp_path, [messages([value])], topic)
    (rows,) = rows_of(tmp_path, topic)
    assert rows.values().to_list() == [value]
    assert rows.columns[kernels.BRANCH, 0] == (kernels.RAW if has_time is None else 2)
    assert (rows.event_ms[0] != kernels.ABSENT) == bool(has_time)


def test_files_are_closed_at_their_size(tmp_path: Path):
    found = write(tmp_path, [readings(50, first=at) for at in range(0, 500, 50)], part_bytes=3000)
    parts = found.topics[TOPIC].parts
    assert len(parts) > 2
    assert sum(facts.tally.events for facts in parts) == found.topics[TOPIC].total.events == 500
    assert offsets_of(tmp_path) == list(range(500))
    assert reader.verify(tmp_path).problems == []


def test_the_manifest_says_what_is_there(tmp_path: Path):
    write(tmp_path, [readings(10), readings(5, first=20, partition=1)])
    facts = manifest.load(tmp_path).topics[TOPIC]
    assert facts.partitions == 2
    assert {number: (span.first, span.last) for number, span in facts.total.partitions.items()} == {
        0: (0, 9),
        1: (20, 24),
    }
    assert facts.total.event_ms == (START_MS, START_MS + 240)
    assert facts.total.broker_ms == (START_MS + 50, START_MS + 290)
    assert facts.parts[0].schemas.keys() == {"sensor_reading.v1"}


def test_the_same_events_are_the_same_bytes(tmp_path: Path):
    for name in "ab":
        write(tmp_path / name, [readings(100)])
    assert part(tmp_path / "a").read_bytes() == part(tmp_path / "b").read_bytes()
    assert (tmp_path / "a/manifest.json").read_bytes() == (tmp_path / "b/manifest.json").read_bytes()


# --- going on after an interruption


def test_after_any_cut_the_rest_is_written_again(tmp_path: Path):
    """Whatever was written when the process died: what is whole stays, and the offsets say what is missing."""
    write(tmp_path / "whole", [readings(20, first=at) for at in (0, 20, 40)])
    whole = part(tmp_path / "whole").read_bytes()
    checksums = blocks_path(part(tmp_path / "whole")).read_bytes()
    for cut in range(0, len(whole), 41):
        folder = tmp_path / "cut"
        shutil.rmtree(folder, ignore_errors=True)
        with RecordingWriter(folder, {TOPIC: 2}) as writer:
            writer.append(TOPIC, readings(1))
        part(folder).write_bytes(whole[:cut])
        blocks_path(part(folder)).write_bytes(checksums[: cut // 10])
        assert reader.verify(folder).problems == []
        with RecordingWriter(folder, {TOPIC: 2}) as writer:
            at = writer.next_offsets(TOPIC).get(0, 0)
            assert at in (0, 20, 40, 60)
            if at < 60:
                writer.append(TOPIC, readings(60 - at, first=at))
            writer.close()
        assert offsets_of(folder) == list(range(60))
        found = reader.verify(folder)
        assert (found.problems, found.notes) == ([], [])


def test_a_kill_while_a_file_is_closed_is_no_loss(tmp_path: Path):
    """The next file was begun, but the manifest does not know of the last one's end."""
    write(tmp_path, [readings(50, first=at) for at in range(0, 300, 50)], part_bytes=1500)
    whole = manifest.load(tmp_path)
    assert len(whole.topics[TOPIC].parts) > 2
    manifest.save(tmp_path, manifest.Manifest(topics={TOPIC: manifest.Topic.of(2, whole.topics[TOPIC].parts[:1])}))
    with RecordingWriter(tmp_path, {TOPIC: 2}, part_bytes=1500) as writer:
        assert writer.next_offsets(TOPIC) == {0: 300}
        assert writer.close().topics == whole.topics


def test_one_recorder_a_folder(tmp_path: Path):
    with (
        RecordingWriter(tmp_path, {TOPIC: 1}),
        pytest.raises(EnvironmentProblemError, match="being recorded into by another"),
    ):
        RecordingWriter(tmp_path, {TOPIC: 1})


def test_a_damaged_file_is_not_taken_up_and_cut(tmp_path: Path):
    """Whole blocks behind the damage would be lost."""
    with RecordingWriter(tmp_path, {TOPIC: 2}) as writer:
        for at in (0, 20, 40):
            writer.append(TOPIC, readings(20, first=at))
    flip(part(tmp_path), in_block=1)
    with pytest.raises(DamagedError, match="checksum differs"):
        RecordingWriter(tmp_path, {TOPIC: 2})


# --- damage


def flip(path: Path, *, in_block: int) -> int:
    """Flip a bit in the middle of a block; return where the block begins."""
    facts = [json.loads(line) for line in blocks_path(path).read_text().splitlines()]
    starts = [fact["at"] for fact in facts] + [path.stat().st_size]
    content = bytearray(path.read_bytes())
    content[(starts[in_block] + starts[in_block + 1]) // 2] ^= 16
    path.write_bytes(content)
    return int(starts[in_block])


def test_a_flipped_bit_is_found_with_its_place(tmp_path: Path):
    write(tmp_path, [readings(20, first=at) for at in (0, 20, 40)])
    at = flip(part(tmp_path), in_block=1)
    (problem,) = reader.verify(tmp_path).problems
    assert f"00000.avro: at byte {at}: the block's checksum differs" in problem
    assert "after 20 of 60 events" in problem
    with pytest.raises(DamagedError, match=f"at byte {at}"):
        rows_of(tmp_path)


def test_every_flipped_byte_is_found_without_the_checksums_too(tmp_path: Path):
    """By the marker, by deflate, by the rows, or by the file's SHA-256; never by another exception."""
    write(tmp_path, [readings(20)])
    blocks_path(part(tmp_path)).unlink()
    whole = part(tmp_path).read_bytes()
    for at in range(0, len(whole), 3):
        part(tmp_path).write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        assert reader.verify(tmp_path).problems, f"byte {at}"


@pytest.mark.parametrize("keep", [0, 3, 40, 2000, -1])
def test_a_closed_file_that_was_cut_is_damaged(tmp_path: Path, keep: int):
    write(tmp_path, [readings(50, first=at) for at in (0, 50)])
    part(tmp_path).write_bytes(part(tmp_path).read_bytes()[:keep])
    assert reader.verify(tmp_path).problems


FOREIGN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "at byte 0: the file is empty"),
    "text": (b"timestamp,value\n1,2\n", "at byte 0: this is no Avro container file"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_is_named(tmp_path: Path, name: str):
    content, text = FOREIGN[name]
    write(tmp_path, [readings(5)])
    part(tmp_path).write_bytes(content)
    assert text in reader.verify(tmp_path).problems[0]


def test_avro_of_somebody_else_is_named(tmp_path: Path):
    write(tmp_path, [readings(5)])
    schema = {"type": "record", "name": "x", "fields": [{"name": "a", "type": "long"}]}
    with part(tmp_path).open("wb") as file:
        fastavro.writer(file, schema, [{"a": 1}])
    assert "an Avro file, but no recording" in reader.verify(tmp_path).problems[0]


def test_a_folder_without_manifest_and_a_damaged_manifest_are_one_line(tmp_path: Path):
    with pytest.raises(EnvironmentProblemError, match="is no recording"):
        Recording(tmp_path)
    for text, said in (
        ("{", "Invalid JSON"),
        ('{"format": 2}', "format 2, but this version reads 1"),
        ('{"topics": {"a": {}}}', "topics.a.partitions: Field required"),
    ):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(EnvironmentProblemError, match=said):
            Recording(tmp_path)


def test_salvage_keeps_all_but_the_damaged_block(tmp_path: Path):
    write(tmp_path / "rec", [readings(20, first=at) for at in (0, 20, 40)])
    flip(part(tmp_path / "rec"), in_block=1)
    found = reader.salvage(tmp_path / "rec", tmp_path / "saved")
    assert found.events == {TOPIC: 40}
    assert len(found.problems) == 1
    assert offsets_of(tmp_path / "saved") == [*range(20), *range(40, 60)]
    after = reader.verify(tmp_path / "saved")
    assert after.problems == []
    assert "20 offsets between 0 and 59 are no events" in after.notes[0]


def test_salvage_needs_no_manifest_and_survives_a_file_without_a_head(tmp_path: Path):
    write(tmp_path / "rec", [readings(50, first=at) for at in range(0, 300, 50)], part_bytes=1500)
    (tmp_path / "rec/manifest.json").unlink()
    part(tmp_path / "rec", 0).write_bytes(b"Obj\x01")
    found = reader.salvage(tmp_path / "rec", tmp_path / "saved")
    assert len(found.problems) == 1
    saved = offsets_of(tmp_path / "saved")
    assert saved[-1] == 299
    assert saved == list(range(saved[0], 300))
    assert reader.verify(tmp_path / "saved").problems == []
    with pytest.raises(EnvironmentProblemError, match="cannot make"):
        reader.salvage(tmp_path / "rec", tmp_path / "saved")


def test_offsets_that_go_down_are_a_problem(tmp_path: Path):
    write(tmp_path, [readings(20, first=20), readings(20)])
    assert "offsets of partition 0 do not go up" in reader.verify(tmp_path).problems[0]


@pytest.mark.parametrize("seed", range(200))
def test_no_bytes_make_the_row_reader_raise(seed: int):
    """A block of rows, damaged at random: what fits is read, and where it stops is said or all of it fits."""
    chance = np.random.default_rng(seed)
    form = form_of(TOPIC)
    payload, _ = encode_rows(form, messages([avro.encode(reading(n)) for n in range(5)], headers=[[("a", b"1")]] * 5))
    damaged = bytearray(payload)
    for at in chance.integers(0, len(damaged), 3):
        damaged[at] = chance.integers(0, 256)
    rows, broken = read_payload(form, bytes(damaged), 5)
    assert len(rows) <= 5
    assert broken is None or 0 <= broken <= len(damaged)
    rows.keys().to_list(), rows.values().to_list()


# --- times moved


def test_all_times_of_a_record_are_moved_and_nothing_else(tmp_path: Path):
    action = {
        "action_id": "1",
        "alert_id": "a",
        "device_id": "d",
        "action": "MUTE",
        "who": "me",
        "note": "",
    }
    records: dict[str, list[Any]] = {
        topics.READINGS: [reading(1), reading(2, value=-0.0, unit="é")],
        topics.DETECTIONS: [avro.decode(encode_example("camera_detection.v1"), CameraDetection)],
        topics.ALERT_ACTIONS: [
            AlertAction(**(action | {"action": avro.records.Action.MUTE}), at=from_millis(START_MS), until=None),
            AlertAction(
                **(action | {"action": avro.records.Action.MUTE}),
                at=from_millis(START_MS),
                until=from_millis(START_MS + 1),
            ),
        ],
    }
    delta = 1_000_000_000_003
    for topic, some in records.items():
        values = [*(avro.encode(record) for record in some), b"no avro"]
        write(tmp_path / topic, [messages(values)], topic)
        (rows,) = rows_of(tmp_path / topic, topic)
        moved = rows.shifted(delta)
        assert (moved.broker_ms == rows.broker_ms + delta).all()
        assert (moved.event_ms[:-1] == rows.event_ms[:-1] + delta).all()
        for record, value in zip(some, moved.values(), strict=False):
            expected = {
                name: from_millis(to_millis(held) + delta) if hasattr(held := getattr(record, name), "tzinfo") else held
                for name in record.__dataclass_fields__
            }
            assert avro.decode(value, type(record), strict=True) == type(record)(**expected)
        assert moved.values()[-1] == b"no avro"
        assert moved.keys().to_list() == rows.keys().to_list()


def test_a_record_with_an_array_keeps_its_times(tmp_path: Path):
    """Known and said in the documentation: it has no columns."""
    model = ModelVersion(
        sensor_type="t",
        version="1",
        algorithm="a",
        status=ModelStatus.ACTIVE,
        location="",
        trained_at=from_millis(START_MS),
        training_rows=1,
        metrics=(Metric(name="m", value=1.0),),
    )
    write(tmp_path, [messages([avro.encode(model)])], topics.MODELS)
    (rows,) = rows_of(tmp_path, topics.MODELS)
    assert rows.shifted(1000).values().to_list() == rows.values().to_list()


def test_versions_of_a_schema_are_kept_side_by_side(tmp_path: Path):
    """A rolling upgrade: each reading is read as its version wrote it, and comes back to the byte."""
    first = avro.load_schema("sensor_reading.v1")
    second = {**first, "fields": [*first["fields"], {"name": "rack", "type": ["null", "string"], "default": None}]}
    old = avro.encode(reading(1))
    new = b"\x00" + (1002).to_bytes(4, "big") + avro.encode(reading(2))[5:] + b"\x02\x06top"
    (tmp_path / "schemas").mkdir()
    write_schemas(tmp_path / "schemas", {"sensor_reading.v1": first, "sensor_reading.v2": second})
    with using_schemas(tmp_path / "schemas"):
        write(tmp_path / "rec", [messages([old, new, old])])
        (rows,) = rows_of(tmp_path / "rec")
        assert rows.columns[kernels.BRANCH].tolist() == [2, 3, 2]
        assert rows.values().to_list() == [old, new, old]
        moved = rows.shifted(60_000)
        assert moved.values()[1] == b"\x00" + (1002).to_bytes(4, "big") + moved.values()[1][5:-5] + b"\x02\x06top"
        with part(tmp_path / "rec").open("rb") as file:
            assert [row["value"].get("rack", "none") for row in fastavro.reader(file)] == ["none", "top", "none"]
    # an older program still reads the file; the newer values have an id that it does not know
    (rows,) = rows_of(tmp_path / "rec")
    assert rows.values().to_list() == [old, new, old]
    with RecordingWriter(tmp_path / "rec", {TOPIC: 2}) as writer:
        writer.append(TOPIC, readings(1, first=3))
        writer.close()
    assert len(manifest.load(tmp_path / "rec").topics[TOPIC].parts) == 2
    assert reader.verify(tmp_path / "rec").problems == []
