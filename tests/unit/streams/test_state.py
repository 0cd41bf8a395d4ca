"""Snapshots as messages: what is whole is found, what is torn is not, and only what changed is written."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streams import state
from streams.state import Claim, SnapshotWriter

LANE = "fleet.readings/1"
FIRST = Claim(1, 7)
Messages = list[tuple[bytes, bytes]]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "BLOCK_BYTES", 64)


def find(messages: Messages, lane: str = LANE) -> state.Found:
    return state.find(lane, dict(messages))


def some(number: int, size: int = 40) -> dict[str, Any]:
    """A state of three arrays, of which one never changes."""
    return {"ints": np.arange(size) + number, "deep": {"er": np.full(size, number / 4)}, "still": np.arange(9)}


def same(one: dict[str, Any] | None, other: dict[str, Any]) -> bool:
    if one is None or one.keys() != other.keys():
        return False
    for name, value in other.items():
        if isinstance(value, dict):
            if not same(one[name], value):
                return False
        elif one[name].dtype != value.dtype or one[name].tobytes() != value.tobytes() or one[name].shape != value.shape:
            return False
    return True


def written(writer: SnapshotWriter, snapshot: dict[str, Any], next_offset: int = 0) -> Messages:
    return [*writer.write(snapshot), writer.manifest(next_offset)]


def test_a_snapshot_is_found_as_it_was_with_its_offset() -> None:
    arrays = {
        "ints": np.arange(60, dtype=np.int32).reshape(6, 10),
        "deep": {"er": {"flags": np.array([True, False]), "ü.x": np.array([np.nan, np.inf])}},
        "empty": np.zeros((0, 4)),
        "number": np.array(3.5),
        "bytes": np.frombuffer(b"abc", np.uint8),
    }
    found = find(written(SnapshotWriter(LANE, FIRST), arrays, next_offset=41))
    assert (found.next_offset, found.claim, found.careful_until) == (41, FIRST, 0)
    assert same(found.snapshot, arrays)


def test_what_is_found_can_be_written_to() -> None:
    found = find(written(SnapshotWriter(LANE, FIRST), {"a": np.arange(3)}))
    assert found.snapshot is not None
    found.snapshot["a"][0] = 9


def test_no_manifest_no_snapshot() -> None:
    assert find(SnapshotWriter(LANE, FIRST).write(some(1))).snapshot is None
    assert find([]).snapshot is None


def test_only_what_changed_is_written() -> None:
    writer, snapshot = SnapshotWriter(LANE, FIRST), some(1)
    assert len(writer.write(snapshot)) == 5 + 5 + 2
    assert writer.write(snapshot) == []
    snapshot["ints"][39] += 1
    ((key, value),) = writer.write(snapshot)
    assert (key, value) == (f"{LANE}/1.7/ints/4/b".encode(), snapshot["ints"][32:].tobytes())
    snapshot["ints"][39] += 1
    assert [key for key, _ in writer.write(snapshot)] == [f"{LANE}/1.7/ints/4/a".encode()]


def test_a_broker_that_forgets_gets_everything_each_time() -> None:
    writer = SnapshotWriter(LANE, FIRST, keep_all=True)
    log = written(writer, some(1), 1)
    latest = written(writer, some(1), 2)
    assert len(latest) == len(log)
    assert same(find(latest).snapshot, some(1))


changes = st.lists(
    st.tuples(st.sampled_from(["ints", "er", "grow", "shrink", "gone", "nothing"]), st.integers(0, 200)), max_size=6
)


@given(changes=changes, data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_crash_at_any_message_leaves_the_snapshot_before(changes: list[tuple[str, int]], data: st.DataObject) -> None:
    """Cut off after every message, compacted or not."""
    state.BLOCK_BYTES = 64  # the fixture's patch may be undone between examples
    writer, log, snapshot = SnapshotWriter(LANE, FIRST), Messages(), some(0)
    whole: dict[int, tuple[int, dict[str, Any]]] = {}
    for number, (kind, at) in enumerate([("nothing", 0), *changes]):
        snapshot = {"ints": snapshot["ints"].copy(), "deep": {"er": snapshot["deep"]["er"].copy()}} | (
            {"still": np.arange(9)} if kind != "gone" else {}
        )
        if kind in ("ints", "er"):
            array = snapshot["ints"] if kind == "ints" else snapshot["deep"]["er"]
            array[at % len(array)] += 1
        elif kind == "grow":
            snapshot["ints"] = np.concatenate([snapshot["ints"], np.arange(at)])
        elif kind == "shrink":
            snapshot["ints"] = snapshot["ints"][: 1 + at % len(snapshot["ints"])]
        log += written(writer, snapshot, number)
        whole[len(log)] = (number, snapshot)
    stop = data.draw(st.integers(0, len(log)))
    expected = next((whole[at] for at in sorted(whole, reverse=True) if at <= stop), None)
    found = find(log[:stop])
    if expected is None:
        assert found.snapshot is None
    else:
        assert found.next_offset == expected[0]
        assert same(found.snapshot, expected[1])


@pytest.mark.parametrize("damage", ["missing", "other bytes"])
def test_a_block_that_is_gone_or_differs_is_said_and_counts_as_nothing(damage: str) -> None:
    """A broker that forgets: the lane warms up again."""
    messages = dict(written(SnapshotWriter(LANE, FIRST), some(1)))
    key = f"{LANE}/1.7/ints/2/a".encode()
    messages[key] = b"" if damage == "missing" else messages[key][::-1]
    with capture_logs() as logs:
        assert state.find(LANE, messages).snapshot is None
    assert [(line["event"], line["log_level"], line["lane"]) for line in logs] == [("state_ignored", "warning", LANE)]


def test_lanes_do_not_see_each_other() -> None:
    """Partition 1 is no prefix of partition 10."""
    one, ten = (SnapshotWriter(f"fleet.readings/{number}", FIRST) for number in (1, 10))
    messages = written(one, some(1)) + written(ten, some(10))
    assert same(find(messages, "fleet.readings/1").snapshot, some(1))
    assert same(find(messages, "fleet.readings/10").snapshot, some(10))
    assert find(messages, "fleet.readings/0").snapshot is None


# --- owners


def test_the_highest_claim_counts_whatever_a_former_owner_still_writes() -> None:
    former, owner = SnapshotWriter(LANE, Claim(1, 9)), SnapshotWriter(LANE, Claim(2, 3))
    log = written(former, some(1), 10) + written(owner, some(2), 20)
    log += written(former, some(3), 30)
    found = find(log)
    assert (found.next_offset, found.claim) == (20, Claim(2, 3))
    assert same(found.snapshot, some(2))


def test_of_two_that_found_the_same_the_one_of_the_later_generation_counts() -> None:
    log = written(SnapshotWriter(LANE, Claim(2, 10)), some(1), 10) + written(
        SnapshotWriter(LANE, Claim(2, 9)), some(2), 20
    )
    assert find(log).next_offset == 10


def test_an_owner_that_died_before_its_first_snapshot_leaves_the_one_before_and_its_claim() -> None:
    log = written(SnapshotWriter(LANE, FIRST), some(1), 10) + SnapshotWriter(LANE, Claim(2, 8)).write(some(2))
    found = find(log)
    assert (found.next_offset, found.claim) == (10, Claim(2, 8))


def test_what_lower_claims_left_can_be_removed() -> None:
    log = dict(written(SnapshotWriter(LANE, FIRST), some(1), 10))
    found = state.find(LANE, log)
    block = state.tombstones(found.keys)
    assert set(block.values.to_list()) == {None}
    log |= dict.fromkeys(block.keys.to_list(), b"") | dict(written(SnapshotWriter(LANE, Claim(2, 8)), some(2), 20))
    found = state.find(LANE, log)
    assert found.next_offset == 20
    assert all(key.startswith(f"{LANE}/2.8/".encode()) for key in found.keys)


# --- what is not ours


def _manifest(**changes: Any) -> bytes:
    return json.dumps({"format": state.FORMAT, "next_offset": 1, "arrays": []} | changes).encode()


@pytest.mark.parametrize(
    "manifest",
    [
        _manifest(format=state.FORMAT + 1),
        _manifest(arrays=[["a", "<i8", [3], "!", ""]]),
        _manifest(arrays=[["a", "no type", [0], "", ""]]),
        _manifest(arrays=[["a", "<i8", [3], "", ""]]),
        b'{"format": 3}',
        b"[]",
        b"not json",
    ],
)
def test_a_manifest_that_is_not_ours_is_said_and_counts_as_nothing(manifest: bytes) -> None:
    with capture_logs() as logs:
        assert find([(f"{LANE}/1.7/manifest".encode(), manifest)]).snapshot is None
    assert [(line["event"], line["log_level"]) for line in logs] == [("state_ignored", "warning")]


def test_keys_of_another_format_are_passed_over() -> None:
    log = [(f"{LANE}/manifest".encode(), b"{}"), (f"{LANE}/a/0".encode(), b"x"), (f"{LANE}/\xff/0".encode(), b"x")]
    assert find(log).claim == Claim(0, 0)


def test_a_tombstone_counts_as_nothing() -> None:
    messages = written(SnapshotWriter(LANE, FIRST), some(1))
    assert find([*messages, (messages[-1][0], b"")]).snapshot is None


def test_up_to_where_care_is_needed_is_found() -> None:
    log = [*written(SnapshotWriter(LANE, FIRST), some(1), 5), state.careful_message("fleet.readings", 1, 90)]
    assert find(log).careful_until == 90
    assert find(log, "fleet.readings/2").careful_until == 0


def test_messages_survive_packing() -> None:
    messages = [("fleet.counts", b"a", b"\x00\x01"), ("fleet.alerts", None, b""), ("fleet.counts", b"", b"x")]
    found = find(written(SnapshotWriter(LANE, FIRST), {"some": state.pack_messages(messages)}))
    assert found.snapshot is not None
    assert state.unpack_messages(found.snapshot["some"]) == messages
    assert state.unpack_messages(state.pack_messages([])) == []
