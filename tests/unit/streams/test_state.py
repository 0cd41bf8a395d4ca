"""Snapshots as messages: what is whole is found, what is torn is not."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from structlog.testing import capture_logs

from streams import state
from streams.state import Manifest

LANE = "fleet.readings/1"
Messages = list[tuple[bytes, bytes]]


class Writer:
    """Writes snapshots one after the other, as the worker does."""

    def __init__(self, lane: str = LANE) -> None:
        self.lane = lane
        self.previous: Manifest | None = None

    def write(self, blob: bytes, next_offset: int = 0) -> tuple[Messages, Messages]:
        """Return the chunks' messages and the manifest's."""
        self.previous, key, value = state.manifest_message(self.lane, self.previous, blob, next_offset)
        return state.chunk_messages(self.lane, self.previous.slot, blob), [(key, value)]


def blob_of(text: str, chunks: int = 3) -> bytes:
    return (text.encode() * (chunks * state.CHUNK_BYTES))[: chunks * state.CHUNK_BYTES - 7]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "CHUNK_BYTES", 64)


def found_blob(messages: Messages, lane: str = LANE) -> bytes | None:
    found = state.newest(lane, messages)
    return None if found is None else found[1]


def test_what_is_packed_is_unpacked() -> None:
    arrays = {
        "ints": np.arange(6, dtype=np.int32).reshape(2, 3),
        "deep": {"er": {"flags": np.array([True, False]), "ü.x": np.array([np.nan, np.inf])}},
        "empty": np.zeros((0, 4)),
        "number": np.array(3.5),
        "nothing": {},
    }
    found = state.unpack(state.pack(arrays))
    assert "nothing" not in found
    for one, other in (
        (found["ints"], arrays["ints"]),
        (found["deep"]["er"]["flags"], np.array([True, False])),
        (found["deep"]["er"]["ü.x"], np.array([np.nan, np.inf])),
        (found["empty"], arrays["empty"]),
        (found["number"], arrays["number"]),
    ):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def test_the_same_state_is_the_same_bytes() -> None:
    """So that a repeated checkpoint can be recognised by its hash."""
    assert state.pack({"a": np.arange(9)}) == state.pack({"a": np.arange(9)})


def test_a_snapshot_is_found_with_its_offset() -> None:
    chunks, manifest = Writer().write(blob_of("x"), next_offset=41)
    assert len(chunks) == 3
    assert all(len(value) <= state.CHUNK_BYTES for _, value in chunks)
    found = state.newest(LANE, chunks + manifest)
    assert found is not None
    assert (found[0].next_offset, found[0].generation, found[1]) == (41, 1, blob_of("x"))


def test_no_manifest_no_snapshot() -> None:
    chunks, _ = Writer().write(blob_of("x"))
    assert state.newest(LANE, chunks) is None
    assert state.newest(LANE, []) is None


def test_slots_alternate_and_generations_grow() -> None:
    writer = Writer()
    seen = []
    for number in range(4):
        writer.write(blob_of(str(number)))
        assert writer.previous is not None
        seen.append((writer.previous.slot, writer.previous.generation))
    assert seen == [("a", 1), ("b", 2), ("a", 3), ("b", 4)]


def test_a_crash_at_any_message_leaves_the_one_before() -> None:
    """Three snapshots of different sizes, cut off after every message; compacted or not."""
    writer, log, whole = Writer(), Messages(), dict[int, bytes]()
    for text, chunks in (("one", 3), ("two", 5), ("three", 1), ("four", 4)):
        parts, manifest = writer.write(blob_of(text, chunks))
        log += parts + manifest
        whole[len(log)] = blob_of(text, chunks)
    for stop in range(len(log) + 1):
        expected = next((whole[at] for at in sorted(whole, reverse=True) if at <= stop), None)
        assert found_blob(log[:stop]) == expected
        compacted = [
            (key, value) for at, (key, value) in enumerate(log[:stop]) if key not in {k for k, _ in log[at + 1 : stop]}
        ]
        assert found_blob(compacted) == expected


def test_chunks_may_come_in_any_order() -> None:
    chunks, manifest = Writer().write(blob_of("abc"))
    assert found_blob(chunks[::-1] + manifest) == blob_of("abc")


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_chunk_is_said_and_counts_as_nothing(missing: int) -> None:
    """A broker that forgets: the lane warms up again."""
    chunks, manifest = Writer().write(blob_of("abc"))
    del chunks[missing]
    with capture_logs() as logs:
        assert state.newest(LANE, chunks + manifest) is None
    assert [(line["event"], line["log_level"], line["lane"]) for line in logs] == [("state_ignored", "warning", LANE)]


def test_a_chunk_that_was_overwritten_is_not_taken_for_whole() -> None:
    chunks, manifest = Writer().write(blob_of("abc"))
    key, value = chunks[1]
    with capture_logs():
        assert state.newest(LANE, [*chunks, *manifest, (key, value[::-1])]) is None


def test_lanes_do_not_see_each_other() -> None:
    """Partition 1 is no prefix of partition 10."""
    one, ten = Writer("fleet.readings/1").write(blob_of("one")), Writer("fleet.readings/10").write(blob_of("ten"))
    messages = [*one[0], *one[1], *ten[0], *ten[1]]
    assert found_blob(messages, "fleet.readings/1") == blob_of("one")
    assert found_blob(messages, "fleet.readings/10") == blob_of("ten")
    assert found_blob(messages, "fleet.readings/0") is None


def manifest_of_another_format(**more: object) -> Messages:
    chunks, manifest = Writer().write(blob_of("x"))
    facts = asdict(replace(Manifest(**json.loads(manifest[0][1])), format=state.FORMAT + 1)) | more
    return [*chunks, (manifest[0][0], json.dumps(facts).encode())]


@pytest.mark.parametrize(
    "messages",
    [
        manifest_of_another_format(),
        manifest_of_another_format(compression="zstd"),  # with fields that this version has never heard of
        [(f"{LANE}/manifest".encode(), b'{"format": 2}')],  # and without those that it knows
        [(f"{LANE}/manifest".encode(), b'{"format": 1}')],
        [(f"{LANE}/manifest".encode(), b"[]")],
        [(f"{LANE}/manifest".encode(), b"not json")],
    ],
)
def test_a_manifest_that_is_not_ours_is_said_and_counts_as_nothing(messages: Messages) -> None:
    with capture_logs() as logs:
        assert state.newest(LANE, messages) is None
    assert [(line["event"], line["log_level"]) for line in logs] == [("state_ignored", "warning")]


def test_a_tombstone_counts_as_nothing() -> None:
    chunks, manifest = Writer().write(blob_of("x"))
    with capture_logs():
        assert state.newest(LANE, [*chunks, *manifest, (manifest[0][0], b"")]) is None


def test_messages_survive_packing():
    messages = [("fleet.counts", b"a", b"\x00\x01"), ("fleet.alerts", None, b""), ("fleet.counts", b"", b"x")]
    packed = state.unpack(state.pack({"by_clock": state.pack_messages(messages)}))
    assert state.unpack_messages(packed["by_clock"]) == messages
    assert state.unpack_messages(state.unpack(state.pack({"none": state.pack_messages([])}))["none"]) == []
