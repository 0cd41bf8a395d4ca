"""Avro container files by the block: https://avro.apache.org/docs/1.12.0/specification/#object-container-files.

Ours have a checksum of each block in a file beside them (``00000.blocks``, a JSON line a block), which tells a flipped
bit where deflate would not. A file without it is read all the same.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.recording import form as forms

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from fleetwatch.recording.form import Form

MAGIC: Final = b"Obj\x01"
SYNC_BYTES: Final = 16
_SMALL: Final = tuple(bytes([number << 1]) for number in range(64))
MOST_BLOCK_BYTES: Final = 256 * 1024 * 1024
"""A block that claims more is damaged."""


class DamagedError(EnvironmentProblemError):
    """A file of a recording cannot be read; the text says where."""

    def __init__(self, path: Path, position: int, reason: str) -> None:
        super().__init__(f"{path}: at byte {position}: {reason}")
        self.path = path
        self.position = position
        self.reason = reason


@dataclass(frozen=True)
class Block:
    """One block: its rows, uncompressed, and where it stands in the file."""

    start: int
    stop: int
    events: int
    payload: bytes


def blocks_path(path: Path) -> Path:
    """Return the file with the checksums of a file's blocks."""
    return path.with_suffix(".blocks")


def put_long(number: int) -> bytes:
    """Return an Avro long."""
    if 0 <= number < 64:
        return _SMALL[number]
    bits = (number << 1) ^ (number >> 63)
    out = bytearray()
    while bits > 0x7F:
        out.append(bits & 0x7F | 0x80)
        bits >>= 7
    out.append(bits)
    return bytes(out)


def sync_of(*parts: object) -> bytes:
    """Return a sync marker: not random, so that the same recording is the same bytes."""
    return hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()[:SYNC_BYTES]


def head(form: Form, sync: bytes) -> bytes:
    """Return the bytes before the first block."""
    metadata = {
        b"avro.schema": json.dumps(form.row_schema()).encode(),
        b"avro.codec": b"deflate",
        b"fleetwatch.topic": form.topic.encode(),
        b"fleetwatch.schemas": forms.form_to_json(form).encode(),
    }
    out = [MAGIC, put_long(len(metadata))]
    for name, value in metadata.items():
        out += [put_long(len(name)), name, put_long(len(value)), value]
    return b"".join([*out, put_long(0), sync])


def block(events: int, payload: bytes, sync: bytes, level: int) -> bytes:
    """Return a block as it stands in a file."""
    packed = zlib.compress(payload, level, wbits=-15)
    return b"".join([put_long(events), put_long(len(packed)), packed, sync])


class ContainerReader:
    """One file, mapped into memory.

    Raises:
        DamagedError: the file has no whole head, or is no recording.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            try:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:  # nothing can be mapped of nothing
                raise DamagedError(path, 0, "the file is empty") from None
        self.size = len(self._bytes)
        try:
            self.metadata, self.sync, self.first = self._read_head()
            self.form = self._read_form()
        except DamagedError:
            self._bytes.close()
            raise
        self._checksums = _read_checksums(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bytes.close()

    def blocks(self, position: int | None = None) -> Iterator[Block]:
        """Yield the blocks from a position (the first by default) on.

        Raises:
            DamagedError: the next one cannot be read.

        """
        at = self.first if position is None else position
        while at < self.size:
            found = self._block(at)
            yield found
            at = found.stop

    def next_block(self, position: int) -> int | None:
        """Return where a block may begin after a damaged one: behind the next sync marker."""
        found = self._bytes.find(self.sync, position)
        return None if found < 0 else found + SYNC_BYTES

    def raw(self, start: int, stop: int) -> bytes:
        """Return bytes as they stand in the file."""
        return self._bytes[start:stop]

    def _block(self, start: int) -> Block:
        events, at = self._long(start)
        size, at = self._long(at)
        if events < 0 or not 0 <= size <= MOST_BLOCK_BYTES:
            raise DamagedError(self.path, start, "no block begins here")
        stop = at + size + SYNC_BYTES
        if stop > self.size:
            raise DamagedError(self.path, start, f"the file ends within a block of {size} bytes")
        if self._bytes[stop - SYNC_BYTES : stop] != self.sync:
            raise DamagedError(self.path, start, "the block does not end with the file's sync marker")
        expected = self._checksums.get(start)
        if expected is not None and zlib.crc32(memoryview(self._bytes)[start:stop]) != expected:
            raise DamagedError(self.path, start, "the block's checksum differs: its bytes were changed")
        packed = self._bytes[at : at + size]
        if self.metadata.get(b"avro.codec", b"null") == b"null":
            return Block(start, stop, events, packed)
        unpacker = zlib.decompressobj(-15)
        try:
            payload = unpacker.decompress(packed, MOST_BLOCK_BYTES)
        except zlib.error:
            raise DamagedError(self.path, start, "the block does not decompress") from None
        if not unpacker.eof or unpacker.unused_data:
            raise DamagedError(self.path, start, "the block does not decompress to its end")
        return Block(start, stop, events, payload)

    def _read_head(self) -> tuple[dict[bytes, bytes], bytes, int]:
        if self._bytes[:4] != MAGIC:
            raise DamagedError(self.path, 0, "this is no Avro container file")
        metadata: dict[bytes, bytes] = {}
        count, at = self._long(4)
        while count:
            if count < 0:  # a block with its size in bytes
                _, at = self._long(at)
            for _ in range(abs(count)):
                name, at = self._text(at)
                metadata[name], at = self._text(at)
            count, at = self._long(at)
        if at + SYNC_BYTES > self.size:
            raise DamagedError(self.path, at, "the file ends within its head")
        return metadata, self._bytes[at : at + SYNC_BYTES], at + SYNC_BYTES

    def _read_form(self) -> Form:
        topic, schemas = self.metadata.get(b"fleetwatch.topic"), self.metadata.get(b"fleetwatch.schemas")
        if topic is None or schemas is None:
            raise DamagedError(self.path, 4, "an Avro file, but no recording of fleetwatch")
        codec = self.metadata.get(b"avro.codec", b"null")
        if codec not in (b"null", b"deflate"):
            raise DamagedError(
                self.path, 4, f"compressed with {codec.decode(errors='replace')}, which is not read here"
            )
        try:
            return forms.form_from_json(topic.decode(), schemas)
        except (ValueError, TypeError):
            raise DamagedError(self.path, 4, "the head names no schemas") from None

    def _long(self, at: int) -> tuple[int, int]:
        bits = shift = 0
        start = at
        while at < self.size and shift < 64:
            byte = self._bytes[at]
            at += 1
            bits |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (bits >> 1) ^ -(bits & 1), at
            shift += 7
        raise DamagedError(self.path, start, "a number has no end")

    def _text(self, at: int) -> tuple[bytes, int]:
        length, start = self._long(at)
        if not 0 <= length <= self.size - start:
            raise DamagedError(self.path, at, "the file ends within its head")
        return self._bytes[start : start + length], start + length


def checksum_line(start: int, events: int, content: bytes) -> bytes:
    """Return the line of a block for the file with the checksums."""
    return json.dumps({"at": start, "events": events, "crc32": zlib.crc32(content)}).encode() + b"\n"


def _read_checksums(path: Path) -> dict[int, int]:
    """Return position -> checksum; damaged lines (the end of an interrupted recording) count for nothing."""
    found: dict[int, int] = {}
    try:
        lines = blocks_path(path).read_bytes().splitlines()
    except FileNotFoundError:
        return found
    for line in lines:
        try:
            facts: dict[str, Any] = json.loads(line)
            found[int(facts["at"])] = int(facts["crc32"])
        except (ValueError, KeyError, TypeError):
            continue
    return found
