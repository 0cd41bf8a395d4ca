"""Snapshots of lanes in the changelog topic: written so that a half-written one is never taken for whole.

A snapshot is nested dicts of arrays. It is packed into one blob and cut into chunks below Kafka's message size. The
chunks go to slot a or b, whichever the last manifest does not name; the manifest, with the blob's SHA-256, goes last
and only after all chunks were acknowledged. Whoever recovers reads the newest manifest and the slot that it names.
"""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fleetwatch import topics
from fleetwatch.logs import get_logger
from streams.batch import blocks_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streams.batch import Block, Message

log = get_logger(__name__)

CHUNK_BYTES: Final = 512 * 1024
FORMAT: Final = 2


@dataclass(frozen=True)
class Manifest:
    """What the newest snapshot of a lane is, and where."""

    format: int
    generation: int
    slot: str
    chunks: int
    sha256: str
    next_offset: int


def pack(state: Mapping[str, Any]) -> bytes:
    """Pack nested dicts of arrays."""
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **dict(_flatten(state)))
    return zlib.compress(out.getvalue(), 1)


def unpack(blob: bytes) -> dict[str, Any]:
    """Return what was packed."""
    state: dict[str, Any] = {}
    with np.load(io.BytesIO(zlib.decompress(blob)), allow_pickle=False) as arrays:
        for path in arrays.files:
            *parents, name = path.split("/")
            at = state
            for parent in parents:
                at = at.setdefault(parent, {})
            at[name] = arrays[path]
    return state


def _flatten(state: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
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


def lane_key(topic: str, partition: int) -> str:
    """Return the first part of the keys of a lane's snapshot."""
    return f"{topic}/{partition}"


def chunk_messages(lane: str, slot: str, blob: bytes) -> list[tuple[bytes, bytes]]:
    """Return the (key, value) messages that carry a blob."""
    return [
        (f"{lane}/{slot}/{number}".encode(), blob[start : start + CHUNK_BYTES])
        for number, start in enumerate(range(0, len(blob), CHUNK_BYTES))
    ]


def manifest_message(
    lane: str, previous: Manifest | None, blob: bytes, next_offset: int
) -> tuple[Manifest, bytes, bytes]:
    """Return the manifest that follows ``previous``, and its (key, value) message."""
    manifest = Manifest(
        format=FORMAT,
        generation=previous.generation + 1 if previous else 1,
        slot="b" if previous and previous.slot == "a" else "a",
        chunks=-(-len(blob) // CHUNK_BYTES),
        sha256=hashlib.sha256(blob).hexdigest(),
        next_offset=next_offset,
    )
    return manifest, f"{lane}/manifest".encode(), json.dumps(asdict(manifest)).encode()


def newest(lane: str, messages: Iterable[tuple[bytes, bytes]]) -> tuple[Manifest, bytes] | None:
    """Return the newest whole snapshot among a changelog's messages (in order), or None.

    Without a manifest there is nothing; a manifest whose chunks are gone or differ (a broker that forgets) is said
    in the log and counts as nothing.
    """
    prefix = f"{lane}/".encode()
    latest = {key: value for key, value in messages if key.startswith(prefix)}
    raw = latest.get(f"{lane}/manifest".encode())
    if not raw:
        return None
    manifest = _read_manifest(raw)
    if manifest is None:
        log.warning("state_ignored", lane=lane, reason="written by another version", manifest=raw[:200])
        return None
    parts = [latest.get(f"{lane}/{manifest.slot}/{number}".encode()) for number in range(manifest.chunks)]
    blob = b"".join(part for part in parts if part is not None)
    if hashlib.sha256(blob).hexdigest() != manifest.sha256:
        log.warning("state_ignored", lane=lane, reason="incomplete: the lane warms up again")
        return None
    return manifest, blob


def _read_manifest(raw: bytes) -> Manifest | None:
    """Return a manifest of this format, or None; another format may have any fields, or be no JSON."""
    try:
        facts = json.loads(raw)
        return Manifest(**facts) if facts["format"] == FORMAT else None
    except (ValueError, TypeError, KeyError):
        return None
