"""Reads recordings: verifies them, hands out their rows in order, and saves what can be read of a damaged one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.recording import container, manifest, rows
from fleetwatch.recording.container import ContainerReader, DamagedError
from fleetwatch.recording.disk import writing
from fleetwatch.recording.manifest import Manifest, Part, Tally, Topic
from fleetwatch.recording.writer import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from fleetwatch.recording.rows import Rows


@dataclass
class Found:
    """What a check of a recording found. ``problems`` are damage, ``notes`` are not."""

    events: dict[str, int] = field(default_factory=dict)
    files: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dict(vars(self))


class Recording:
    """A recording that is read. Files that the manifest does not name are read to their last whole block.

    Raises:
        EnvironmentProblemError: the folder is no recording.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: Manifest = manifest.load(folder)

    @property
    def topics(self) -> list[str]:
        """The recorded topics."""
        return sorted(self.manifest.topics)

    def files(self, topic: str) -> list[tuple[Path, Part | None]]:
        """Return a topic's files in order, with what the manifest says of them."""
        if topic not in self.manifest.topics:
            return []
        parts = self.manifest.topics[topic].parts
        named = [(self.folder / part.file, part) for part in parts]
        known = {path for path, _ in named}
        others = sorted(path for path in (self.folder / topic).glob(f"*{SUFFIX}") if path not in known)
        return [*named, *((path, None) for path in others)]

    def rows(self, topic: str) -> Iterator[Rows]:
        """Yield the rows of a topic, block by block, in the order in which they were recorded.

        Raises:
            DamagedError: a file that was closed cannot be read.

        """
        for path, part in self.files(topic):
            if not path.exists():
                raise DamagedError(path, 0, "the file is missing")
            yield from part_rows(path, is_closed=part is not None)

    def events(self, topics: Sequence[str] | None = None) -> int:
        """Return how many events closed files have, of all topics or of some."""
        facts = self.manifest.topics
        return sum(facts[topic].total.events for topic in (facts if topics is None else topics) if topic in facts)

    def clock_end_ms(self) -> int | None:
        """Return until when nothing else had come; of an interrupted recording, the newest broker time."""
        if self.manifest.clock_ends_ms is not None:
            return self.manifest.clock_ends_ms
        newest = [topic.total.broker_ms[1] for topic in self.manifest.topics.values() if topic.total.broker_ms]
        for topic in self.topics:
            if any(part is None for _, part in self.files(topic)):
                newest += [int(found.broker_ms.max()) for found in self.rows(topic)]
        return max(newest, default=None)


def part_rows(path: Path, *, is_closed: bool) -> Iterator[Rows]:
    """Yield the rows of one file; one that was not closed ends at its last whole block.

    Raises:
        DamagedError: a file that was closed cannot be read.

    """
    try:
        yield from _rows_of(path)
    except DamagedError:
        if is_closed:
            raise


def _rows_of(path: Path) -> Iterator[Rows]:
    with ContainerReader(path) as reader:
        for block in reader.blocks():
            found, broken = rows.read_payload(reader.form, block.payload, block.events)
            if broken is not None:
                raise _broken(path, block, found, broken)
            yield found


def _broken(path: Path, block: container.Block, found: Rows, broken: int) -> DamagedError:
    where = f"row {len(found)} of {block.events}, byte {broken} of the uncompressed block"
    return DamagedError(path, block.start, f"the block does not hold what it should: {where}")


def verify(folder: Path) -> Found:
    """Read all of a recording and compare it with its manifest.

    Raises:
        EnvironmentProblemError: the folder is no recording.

    """
    recording, found = Recording(folder), Found()
    if not recording.manifest.is_complete:
        found.notes.append("the recording was interrupted: its last files are valid up to their last whole block")
    for topic in recording.topics:
        total = Tally()
        for path, part in recording.files(topic):
            found.files += 1
            if not path.exists():
                found.problems.append(f"{path}: the file is missing")
                continue
            tally = _verify_file(path, part, total, found)
            total = total.and_then(tally)
        found.events[topic] = total.events
        found.notes += [
            f"{topic}, partition {number}: {span.missing} offsets between {span.first} and {span.last} are no events "
            f"(compaction, transactions, or gone before they were recorded)"
            for number, span in total.partitions.items()
            if span.missing
        ]
    return found


def _verify_file(path: Path, part: Part | None, before: Tally, found: Found) -> Tally:
    tally = Tally()
    try:
        for block_rows in _rows_of(path):
            problem = _disorder(before.and_then(tally), block_rows)
            if problem:
                found.problems.append(f"{path}: {problem}")
            tally = tally.and_then(Tally.of(block_rows.columns))
    except DamagedError as error:
        if part is None:
            found.notes.append(f"{error}: it ends here, with {tally.events} events")
        else:
            found.problems.append(f"{error} (after {tally.events} of {part.tally.events} events)")
        return tally
    if part is not None:
        if _sha256(path) != part.sha256:
            found.problems.append(f"{path}: its SHA-256 is not the manifest's, though every block can be read")
        if tally != part.tally:
            found.problems.append(f"{path}: {tally.events} events, but not those that the manifest says")
    return tally


def _disorder(before: Tally, block: Rows) -> str | None:
    """Say which partition's offsets do not go up."""
    for number in np.unique(block.partitions).tolist():
        offsets = block.offsets[block.partitions == number]
        span = before.partitions.get(number)
        if (np.diff(offsets) <= 0).any() or (span is not None and offsets[0] <= span.last):
            return f"offsets of partition {number} do not go up"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def salvage(folder: Path, out: Path) -> Found:
    """Copy what can be read of a recording, damaged blocks left out, to a new folder.

    A block whose checksum differs is left out as a whole: which of its events are right cannot be known.

    Raises:
        EnvironmentProblemError: ``out`` is there already, ``folder`` holds no recorded file, or the disk refuses.

    """
    sources = sorted(folder.glob(f"*/*{SUFFIX}"))
    if not sources:
        raise EnvironmentProblemError(f"{folder} holds no recorded files (*/*{SUFFIX})")
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise EnvironmentProblemError(f"cannot make {out}: {error.strerror}") from None
    counts = _partition_counts(folder)
    found = Found()
    parts: dict[str, list[Part]] = {}
    for path in sources:
        found.files += 1
        try:
            reader = ContainerReader(path)
        except DamagedError as error:
            found.problems.append(str(error))
            continue
        with reader:
            topic = reader.form.topic
            target = out / topic / path.name
            part = _copy_blocks(reader, target, found, out)
        parts.setdefault(topic, []).append(part)
        found.events[topic] = found.events.get(topic, 0) + part.tally.events
    topics = {
        topic: Topic.of(max(counts.get(topic, 0), *(max(part.tally.partitions, default=0) + 1 for part in some)), some)
        for topic, some in parts.items()
    }
    with writing(out):
        manifest.save(out, Manifest(is_complete=True, topics=topics))
    return found


def _partition_counts(folder: Path) -> dict[str, int]:
    try:
        return {topic: facts.partitions for topic, facts in manifest.load(folder).topics.items()}
    except EnvironmentProblemError:
        return {}


def _copy_blocks(reader: ContainerReader, target: Path, found: Found, out: Path) -> Part:
    source = reader.path
    content = source.read_bytes()
    pieces, lines, tally = [content[: reader.first]], [], Tally()
    at: int | None = reader.first
    size = reader.first
    while at is not None and at < reader.size:
        try:
            block = next(reader.blocks(at))
            block_rows, broken = rows.read_payload(reader.form, block.payload, block.events)
            if broken is not None:
                raise _broken(source, block, block_rows, broken)
        except DamagedError as error:
            found.problems.append(str(error))
            at = reader.next_block(at)
            continue
        piece = content[block.start : block.stop]
        lines.append(container.checksum_line(size, block.events, piece))
        pieces.append(piece)
        size += len(piece)
        tally = tally.and_then(Tally.of(block_rows.columns))
        at = block.stop
    whole = b"".join(pieces)
    with writing(out):
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(whole)
        container.blocks_path(target).write_bytes(b"".join(lines))
    return Part(
        file=target.relative_to(out).as_posix(),
        bytes=len(whole),
        sha256=hashlib.sha256(whole).hexdigest(),
        blocks=len(lines),
        schemas={schema.name: schema.fingerprint for schema in reader.form.schemas},
        tally=tally,
    )
