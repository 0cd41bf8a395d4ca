"""What is in a recording: topics, partitions, offset and time ranges, counts, checksums, schemas.

``manifest.json`` names the files that are closed. It is written anew at every rotation and at the end, beside its place
and moved in. A file that it does not name is one that was being written: it is read to its last whole block.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.recording import kernels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

FORMAT: Final = 1
NAME: Final = "manifest.json"
Range = tuple[int, int] | None
"""Least and greatest, both inclusive; None where there is nothing."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Span(_Strict):
    """What there is of a partition: offsets, both inclusive, and how many events."""

    first: int
    last: int
    events: int

    @property
    def missing(self) -> int:
        """How many offsets in between are no event: a compacted or transactional topic has such."""
        return self.last - self.first + 1 - self.events


class Tally(_Strict):
    """What there is in one or more blocks. Times are milliseconds since 1970."""

    events: int = 0
    event_ms: Range = None
    broker_ms: Range = None
    partitions: dict[int, Span] = {}

    @staticmethod
    def of(columns: NDArray[np.int64]) -> Tally:
        """Count the rows of a block, whose partitions are each in the order of offsets."""
        partitions: dict[int, Span] = {}
        for number in np.unique(columns[kernels.PARTITION]).tolist():
            mine = columns[kernels.OFFSET, columns[kernels.PARTITION] == number]
            partitions[number] = Span(first=int(mine[0]), last=int(mine[-1]), events=len(mine))
        times = columns[kernels.EVENT_MS]
        return Tally(
            events=columns.shape[1],
            event_ms=_range(times[times != kernels.ABSENT]),
            broker_ms=_range(columns[kernels.BROKER_MS]),
            partitions=partitions,
        )

    def and_then(self, later: Tally) -> Tally:
        """Return the tally of this and what follows it."""
        partitions = dict(self.partitions)
        for number, span in later.partitions.items():
            before = partitions.get(number)
            partitions[number] = (
                span if before is None else Span(first=before.first, last=span.last, events=before.events + span.events)
            )
        return Tally(
            events=self.events + later.events,
            event_ms=_both(self.event_ms, later.event_ms),
            broker_ms=_both(self.broker_ms, later.broker_ms),
            partitions=dict(sorted(partitions.items())),
        )


class Part(_Strict):
    """One closed file, relative to the recording's folder. ``schemas`` are name -> fingerprint."""

    file: str
    bytes: int
    sha256: str
    blocks: int
    schemas: dict[str, str]
    tally: Tally


class Topic(_Strict):
    """The files of one topic in order; ``partitions`` is how many the topic has.

    ``begins`` are the offsets from which a recorder read on first, by partition, also where nothing has come since.
    """

    partitions: int
    begins: dict[int, int] = {}
    parts: tuple[Part, ...] = ()
    total: Tally

    @staticmethod
    def of(partitions: int, parts: Iterable[Part], begins: Mapping[int, int] | None = None) -> Topic:
        """Sum the files up."""
        parts = tuple(parts)
        total = Tally()
        for part in parts:
            total = total.and_then(part.tally)
        return Topic(partitions=partitions, begins=dict(sorted((begins or {}).items())), parts=parts, total=total)


class Manifest(_Strict):
    """``is_complete``: the recorder ended in order. ``clock_ends_ms``: until then nothing else had come."""

    format: int = FORMAT
    is_complete: bool = False
    clock_ends_ms: int | None = None
    topics: dict[str, Topic] = {}


def _range(numbers: NDArray[np.int64]) -> Range:
    return (int(numbers.min()), int(numbers.max())) if len(numbers) else None


def _both(left: Range, right: Range) -> Range:
    if left is None or right is None:
        return left or right
    return min(left[0], right[0]), max(left[1], right[1])


def load(folder: Path) -> Manifest:
    """Read the manifest of a recording.

    Raises:
        EnvironmentProblemError: there is none, or it is of a newer version, or damaged.

    """
    path = folder / NAME
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise EnvironmentProblemError(f"{folder} is no recording: it has no {NAME}") from None
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise EnvironmentProblemError(f"{path}: {place}: {first['msg']}") from None
    except ValueError:
        raise EnvironmentProblemError(f"{path} is no UTF-8 text") from None
    if manifest.format != FORMAT:
        raise EnvironmentProblemError(f"{path}: format {manifest.format}, but this version reads {FORMAT}")
    return manifest


def save(folder: Path, manifest: Manifest) -> None:
    """Write the manifest so that a reader never sees half of one."""
    beside = folder / f".{NAME}.{os.getpid()}"
    with beside.open("w", encoding="utf-8") as file:
        file.write(manifest.model_dump_json(indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(folder / NAME)
