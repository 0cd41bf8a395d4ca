"""Writes recordings: a folder with a sub-folder a topic and numbered files in it.

The recording is its own checkpoint: an event and its offset are in the same block. What was interrupted, at any
point, is taken up by dropping what follows the last whole block and reading on from the offsets that are there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from typing import TYPE_CHECKING, Any, Final, Self

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.recording import container, manifest, rows
from fleetwatch.recording.container import ContainerReader, DamagedError
from fleetwatch.recording.disk import writing
from fleetwatch.recording.form import form_of
from fleetwatch.recording.manifest import Manifest, Part, Tally, Topic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from fleetwatch.recording.form import Form
    from fleetwatch.recording.rows import Messages

PART_BYTES: Final = 64 * 1024 * 1024
SUFFIX: Final = ".avro"
LEVEL: Final = 1
"""Of deflate: higher ones take three times as long for a tenth."""


class PartWriter:
    """One file that is being written, new or taken up again."""

    def __init__(self, path: Path, form: Form, *, level: int = LEVEL) -> None:
        self.path, self.form, self._level = path, form, level
        self.blocks, self.tally = 0, Tally()
        self._hash = hashlib.sha256()
        is_new = not path.exists()
        self._sync = container.sync_of(form.topic, path.name)
        kept: list[bytes] = []
        self.bytes = 0 if is_new else self._take_up(kept)
        self._file = path.open("ab", buffering=0)
        self._file.truncate(self.bytes)
        container.blocks_path(path).write_bytes(b"".join(kept))
        self._checksums = container.blocks_path(path).open("ab", buffering=0)
        if self.bytes == 0:
            self._put(container.head(form, self._sync))

    def append(self, messages: Messages) -> Tally:
        """Write a block; when this returns it is the kernel's, and a kill of the process does not lose it."""
        payload, columns = rows.encode_rows(self.form, messages)
        start = self.bytes
        content = container.block(len(messages), payload, self._sync, self._level)
        self._put(content)
        self._checksums.write(container.checksum_line(start, len(messages), content))
        tally = Tally.of(columns)
        self.tally = self.tally.and_then(tally)
        self.blocks += 1
        return tally

    def close(self, relative_to: Path) -> Part:
        """Make the file durable and return what the manifest says of it."""
        os.fsync(self._file.fileno())
        self.abandon()
        return Part(
            file=self.path.relative_to(relative_to).as_posix(),
            bytes=self.bytes,
            sha256=self._hash.hexdigest(),
            blocks=self.blocks,
            schemas={schema.name: schema.fingerprint for schema in self.form.schemas},
            tally=self.tally,
        )

    def abandon(self) -> None:
        """Let go of the file as it is."""
        self._file.close()
        self._checksums.close()

    def _put(self, content: bytes) -> None:
        at = 0
        while at < len(content):  # a raw file may take less at once
            at += self._file.write(content[at:])
        self._hash.update(content)
        self.bytes += len(content)

    def _take_up(self, kept: list[bytes]) -> int:
        """Read what is whole of the file; return its length."""
        try:
            reader = ContainerReader(self.path)
        except DamagedError:  # killed within the head: nothing is lost by beginning again
            return 0
        with reader:
            self.form, self._sync, stop = reader.form, reader.sync, reader.first
            try:
                for block in reader.blocks():
                    found, broken = rows.read_payload(reader.form, block.payload, block.events)
                    if broken is not None:
                        break
                    content = reader.raw(block.start, block.stop)
                    kept.append(container.checksum_line(block.start, block.events, content))
                    self.tally = self.tally.and_then(Tally.of(found.columns))
                    self.blocks += 1
                    stop = block.stop
            except DamagedError as error:
                # what follows the last whole block is read from the broker again; but a whole one must not be dropped
                if reader.next_block(error.position) is not None:
                    raise
            with self.path.open("rb") as file:
                self._hash.update(file.read(stop))
            return stop


class RecordingWriter:
    """A recording that is being written, new or taken up again. One at a time a folder.

    Raises:
        EnvironmentProblemError: the folder cannot be written, is in use, or holds something else.

    """

    def __init__(
        self, folder: Path, partition_counts: Mapping[str, int], *, part_bytes: int = PART_BYTES, level: int = LEVEL
    ) -> None:
        self.folder, self._part_bytes, self._level = folder, part_bytes, level
        self._counts = dict(partition_counts)
        self._begins: dict[str, dict[int, int]] = {}
        self._lock = _locked(folder)
        try:
            self._parts = self._closed_parts()
            with writing(folder):
                self._open = {topic: self._take_up(topic) for topic in self._counts}
                self._save(is_complete=False, clock_ends_ms=None)
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in self._open.values():
            if part is not None:
                part.abandon()
        self._lock.close()

    def next_offsets(self, topic: str) -> dict[int, int]:
        """Return one past the last offset that is kept of each partition; where nothing is, where it began."""
        kept = {number: span.last + 1 for number, span in self._total(topic).partitions.items()}
        return self._begins.get(topic, {}) | kept

    def begin(self, begins: Mapping[tuple[str, int], int]) -> None:
        """Note from where partitions (topic and number) are read on; those that are known already stay as they are.

        Raises:
            EnvironmentProblemError: the disk refuses.

        """
        for (topic, number), offset in begins.items():
            self._begins.setdefault(topic, {}).setdefault(number, offset)
            self._counts[topic] = max(self._counts[topic], number + 1)
        with writing(self.folder):
            self._save(is_complete=False, clock_ends_ms=None)

    @property
    def events(self) -> dict[str, int]:
        """How many events are kept of each topic."""
        return {topic: self._total(topic).events for topic in self._counts}

    def append(self, topic: str, messages: Messages) -> None:
        """Write messages, those of a partition in the order of their offsets, as one block.

        Raises:
            EnvironmentProblemError: the disk refuses. What is there stays valid up to its last whole block.

        """
        if len(messages) == 0:
            return
        with writing(self.folder):
            self._append(topic, messages)

    def _append(self, topic: str, messages: Messages) -> None:
        part = self._open[topic]
        if part is not None and part.bytes >= self._part_bytes:
            self._parts[topic].append(part.close(self.folder))
            self._open[topic] = part = None
            self._save(is_complete=False, clock_ends_ms=None)
        if part is None:
            part = self._open[topic] = self._new(topic)
        part.append(messages)

    def close(self, clock_ends_ms: int | None = None) -> Manifest:
        """Close all files; ``clock_ends_ms`` as in the manifest.

        Raises:
            EnvironmentProblemError: the disk refuses.

        """
        with writing(self.folder):
            for topic, part in self._open.items():
                if part is not None:
                    self._parts[topic].append(part.close(self.folder))
                    self._open[topic] = None
            return self._save(is_complete=True, clock_ends_ms=clock_ends_ms)

    def _total(self, topic: str) -> Tally:
        total = Topic.of(0, self._parts[topic]).total
        part = self._open[topic]
        return total if part is None else total.and_then(part.tally)

    def _new(self, topic: str) -> PartWriter:
        path = self._path(topic)
        path.parent.mkdir(exist_ok=True)
        return PartWriter(path, form_of(topic), level=self._level)

    def _path(self, topic: str, *, ahead: int = 0) -> Path:
        return self.folder / topic / f"{len(self._parts[topic]) + ahead:05}{SUFFIX}"

    def _closed_parts(self) -> dict[str, list[Part]]:
        if not (self.folder / manifest.NAME).exists():
            if any(path.suffix == SUFFIX for path in self.folder.glob(f"*/*{SUFFIX}")):
                raise EnvironmentProblemError(f"{self.folder} has recorded files, but no manifest: salvage it first")
            return {topic: [] for topic in self._counts}
        old = manifest.load(self.folder)
        self._begins = {topic: dict(facts.begins) for topic, facts in old.topics.items()}
        for topic in sorted(old.topics.keys() - self._counts.keys()):
            self._counts[topic] = old.topics[topic].partitions
        return {topic: list(old.topics[topic].parts) if topic in old.topics else [] for topic in self._counts}

    def _take_up(self, topic: str) -> PartWriter | None:
        """Take up what was not closed: the last file goes on, unless the schemas have changed since."""
        while self._path(topic).exists():
            part = self._new(topic)
            if not self._path(topic, ahead=1).exists() and part.form == form_of(topic):
                return part
            self._parts[topic].append(part.close(self.folder))
        return None

    def _save(self, *, is_complete: bool, clock_ends_ms: int | None) -> Manifest:
        found = Manifest(
            is_complete=is_complete,
            clock_ends_ms=clock_ends_ms,
            topics={
                topic: Topic.of(self._counts[topic], self._parts[topic], self._begins.get(topic))
                for topic in sorted(self._counts)
            },
        )
        manifest.save(self.folder, found)
        return found


def _locked(folder: Path) -> Any:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise EnvironmentProblemError(f"cannot write to {folder}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise EnvironmentProblemError(f"{folder} is being recorded into by another process") from None
    return lock
