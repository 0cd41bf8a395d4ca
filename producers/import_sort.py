"""Rows of any number in the order of their times, with little memory: sorted runs on disk, merged.

Ties keep the order in which the rows came. A file that is in order already has one run open at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MERGE_ROWS: Final = 16_384
"""Rows of a run that are in memory at a time."""

_Place = tuple[int, int]
"""Time and row of a row."""


@dataclass(frozen=True)
class _Run:
    path: Path
    rows: int
    first: _Place

    def read(self, start: int) -> pl.DataFrame:
        return pl.scan_parquet(self.path).slice(start, MERGE_ROWS).collect()


@dataclass
class _Head:
    """The part of a run that is in memory."""

    run: _Run
    frame: pl.DataFrame
    read: int

    @property
    def last(self) -> _Place:
        return _place(self.frame, -1)

    def take(self, bound: _Place) -> pl.DataFrame:
        """Return and drop the rows up to a place; read on when none are left."""
        times, rows = (self.frame[name].to_numpy() for name in ("time", "row"))
        low, high = (int(np.searchsorted(times, bound[0], side)) for side in ("left", "right"))
        cut = low + int(np.searchsorted(rows[low:high], bound[1], "right"))
        taken, self.frame = self.frame[:cut], self.frame[cut:]
        if len(self.frame) == 0 and self.read < self.run.rows:
            self.frame = self.run.read(self.read)
            self.read += len(self.frame)
        return taken


class SortedRuns:
    """Frames with the columns ``time`` and ``row`` (whole numbers; rows rise from frame to frame) to be merged.

    Raises:
        OSError, polars.exceptions.PolarsError: the folder cannot be written or read.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: list[_Run] = []

    def add(self, frame: pl.DataFrame) -> None:
        """Keep a frame as a run."""
        if len(frame) == 0:
            return
        ordered = frame.sort("time", "row", maintain_order=True)
        path = self._folder / f"{len(self._runs):06}.parquet"
        ordered.write_parquet(path, compression="lz4", row_group_size=MERGE_ROWS, statistics=False)
        self._runs.append(_Run(path, len(ordered), _place(ordered, 0)))

    def merged(self) -> Iterator[pl.DataFrame]:
        """Yield all rows in order, in frames of any size."""
        waiting = sorted(self._runs, key=lambda run: run.first, reverse=True)
        heads: list[_Head] = []
        while waiting or heads:
            bound = min((head.last for head in heads), default=None)
            while waiting and (bound is None or waiting[-1].first <= bound):
                run = waiting.pop()
                frame = run.read(0)
                heads.append(_Head(run, frame, len(frame)))
                bound = heads[-1].last if bound is None else min(bound, heads[-1].last)
            assert bound is not None
            yield pl.concat([head.take(bound) for head in heads]).sort("time", "row", maintain_order=True)
            heads = [head for head in heads if len(head.frame)]


def _place(frame: pl.DataFrame, at: int) -> _Place:
    return int(frame["time"][at]), int(frame["row"][at])
