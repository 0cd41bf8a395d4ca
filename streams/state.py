"""Snapshots of lanes in the changelog topic: only what changed is written, and a torn one is never taken for whole.

A snapshot is nested dicts of arrays. Each array is cut into blocks of bytes, and a checkpoint writes the blocks that
differ from what was written last, each to slot a or b: the one that the last manifest does not name. The manifest goes
last, after all blocks were acknowledged; it names the slot and the checksum of every block.

Whoever takes a lane over writes under a *claim* of its own, higher than every claim before it, and begins with a
whole snapshot. So a former owner that does not know yet that it is one overwrites nothing of the new owner's, and its
manifest is never preferred. What is left of lower claims is removed when the new owner's first manifest stands.

Keys: ``topic/partition/claim/path/block/slot``, ``topic/partition/claim/manifest`` and ``topic/partition/careful``.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np

from fleetwatch import topics
from fleetwatch.byte_column import ByteColumn
from fleetwatch.logs import get_logger
from streams.batch import Block, blocks_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from streams.batch import Message

    Messages = Mapping[bytes, bytes]

log = get_logger(__name__)

BLOCK_BYTES: Final = 64 * 1024
FORMAT: Final = 4
_SLOTS: Final = "ab"


class Claim(NamedTuple):
    """Who writes: counted up by each owner from what it finds, then by the consumer group's generation.

    Two workers that find the same state were assigned it in different generations, the later one in the higher.
    """

    term: int
    generation: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the claim of a key's part; None for something else."""
        term, _, generation = text.partition(".")
        return cls(int(term), int(generation)) if term.isdecimal() and generation.isdecimal() else None

    def __str__(self) -> str:
        return f"{self.term}.{self.generation}"


@dataclass(frozen=True)
class Found:
    """What the changelog holds of a lane.

    Its newest whole snapshot, the offset that comes next, the highest claim, all keys of claims, up to which offset a
    fold has failed that went on from this snapshot, and where the lane's input ended when this was read.
    """

    snapshot: dict[str, Any] | None
    next_offset: int
    claim: Claim
    keys: frozenset[bytes]
    careful_until: int
    input_end: int = 0


@dataclass
class _Array:
    """How an array was last written: its blocks, and the slot and checksum of each."""

    dtype: str
    shape: tuple[int, ...]
    blocks: list[bytes] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    sums: list[int] = field(default_factory=list)


class SnapshotWriter:
    """Writes the snapshots of one lane. ``keep_all``: for a broker that forgets, write whole snapshots only."""

    def __init__(self, lane: str, claim: Claim, *, keep_all: bool = False) -> None:
        self.claim = claim
        self._prefix = f"{lane}/{claim}/"
        self._keep_all = keep_all
        self._arrays: dict[str, _Array] = {}

    def write(self, snapshot: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
        """Return the (key, value) messages of the blocks that changed since the last call."""
        messages: list[tuple[bytes, bytes]] = []
        before, self._arrays = self._arrays, {}
        for path, value in _flatten(snapshot):
            array = np.asarray(value)
            self._arrays[path] = last = before.get(path) or _Array("", ())
            last.dtype, last.shape = array.dtype.str, array.shape
            content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            for number in range(-(-len(content) // BLOCK_BYTES)):
                block = content[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES].tobytes()
                if number == len(last.blocks):
                    last.blocks.append(b"")
                    last.slots.append(1)
                    last.sums.append(0)
                elif block == last.blocks[number] and not self._keep_all:
                    continue
                last.blocks[number] = block
                last.slots[number] = 1 - last.slots[number]
                last.sums[number] = zlib.crc32(block)
                messages.append((_block_key(self._prefix, path, number, last.slots[number]), block))
            stop = -(-len(content) // BLOCK_BYTES)
            del last.blocks[stop:], last.slots[stop:], last.sums[stop:]
        return messages

    def manifest(self, next_offset: int) -> tuple[bytes, bytes]:
        """Return the (key, value) message that makes the snapshot written last the one in force."""
        content = {
            "format": FORMAT,
            "next_offset": next_offset,
            "arrays": [
                [path, array.dtype, array.shape, _to_text(array.slots, "u1"), _to_text(array.sums, "<u4")]
                for path, array in self._arrays.items()
            ],
        }
        return f"{self._prefix}manifest".encode(), json.dumps(content).encode()


def find(lane: str, messages: Messages) -> Found:
    """Return the newest whole snapshot of a lane among the changelog's latest messages by key.

    A manifest whose blocks are gone or differ (a broker that forgets), or that another version wrote, is said in the
    log, and the one of the claim before it is taken, if there is one.
    """
    prefix = f"{lane}/".encode()
    mine = {key: value for key, value in messages.items() if key.startswith(prefix) and value}
    mine.pop(_careful_key(lane), None)
    by_claim = {
        claim: key
        for key in mine
        if (claim := Claim.parse(key[len(prefix) :].split(b"/", 1)[0].decode(errors="replace"))) is not None
    }
    highest = max(by_claim, default=Claim(0, 0))
    found = Found(None, 0, highest, frozenset(mine), int(messages.get(_careful_key(lane)) or 0))
    for claim in sorted(by_claim, reverse=True):
        raw = mine.get(f"{lane}/{claim}/manifest".encode())
        if raw is None:
            continue  # its owner wrote no whole snapshot
        try:
            snapshot, next_offset = _read(f"{lane}/{claim}/", raw, mine)
        except (ValueError, TypeError, KeyError) as error:
            log.warning("state_ignored", lane=lane, claim=str(claim), reason=str(error))
            continue
        return replace(found, snapshot=snapshot, next_offset=next_offset)
    return found


def _read(prefix: str, raw: bytes, messages: Messages) -> tuple[dict[str, Any], int]:
    manifest = json.loads(raw)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError("written by another version")
    snapshot: dict[str, Any] = {}
    for path, dtype, shape, slots, sums in manifest["arrays"]:
        blocks = []
        for number, (slot, total) in enumerate(zip(_from_text(slots, "u1"), _from_text(sums, "<u4"), strict=True)):
            block = messages.get(_block_key(prefix, path, number, slot), b"")
            if zlib.crc32(block) != total:
                raise ValueError("incomplete: the lane warms up again")
            blocks.append(block)
        array = np.frombuffer(bytearray(b"".join(blocks)), dtype).reshape(shape)
        *parents, name = path.split("/")
        at = snapshot
        for parent in parents:
            at = at.setdefault(parent, {})
        at[name] = array
    return snapshot, int(manifest["next_offset"])


def _block_key(prefix: str, path: str, number: int, slot: int) -> bytes:
    return f"{prefix}{path}/{number}/{_SLOTS[slot]}".encode()


def _to_text(numbers: list[int], dtype: str) -> str:
    return base64.b64encode(np.array(numbers, dtype).tobytes()).decode()


def _from_text(text: str, dtype: str) -> list[int]:
    numbers: list[int] = np.frombuffer(base64.b64decode(text), dtype).tolist()
    return numbers


def _flatten(state: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, NDArray[Any]]]:
    for name, value in state.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


def pack_messages(messages: list[Message]) -> dict[str, Any]:
    """Return (topic, key, value) messages as arrays for a snapshot; a missing key has length -1."""
    parts = [part for topic, key, value in messages for part in (topic.encode(), key, value)]
    return {
        "lengths": np.array([-1 if part is None else len(part) for part in parts], np.int64),
        "bytes": np.frombuffer(b"".join(part or b"" for part in parts), np.uint8),
    }


def unpack_messages(arrays: Mapping[str, Any]) -> list[Message]:
    """Return what ``pack_messages`` was given."""
    joined, at = arrays["bytes"].tobytes(), 0
    parts: list[bytes | None] = []
    for length in arrays["lengths"].tolist():
        parts.append(None if length < 0 else joined[at : at + length])
        at += max(length, 0)
    return [
        ((parts[first] or b"").decode(), parts[first + 1], parts[first + 2] or b"") for first in range(0, len(parts), 3)
    ]


def blocks(messages: list[tuple[bytes, bytes]]) -> list[Block]:
    """Return (key, value) messages for the changelog."""
    return blocks_of([(topics.STATE, key, value) for key, value in messages])


def tombstones(keys: Iterable[bytes]) -> Block:
    """Return messages that remove keys from the changelog."""
    column = ByteColumn.of(sorted(keys))
    return Block(topics.STATE, column, ByteColumn.of([None] * len(column)))


def careful_message(topic: str, partition: int, until: int) -> tuple[bytes, bytes]:
    """Return the message that has the next owner fold record by record, where it must, up to an offset."""
    return _careful_key(lane_key(topic, partition)), str(until).encode()


def _careful_key(lane: str) -> bytes:
    return f"{lane}/careful".encode()


def lane_key(topic: str, partition: int) -> str:
    """Return the first part of the keys of a lane's snapshot."""
    return f"{topic}/{partition}"
