"""What a soak run notes down: records, and the file of JSON lines that they are kept in while it runs.

A run that is interrupted, killed or resumed has one journal. Every line is a record with its kind; times are
seconds since the epoch.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

FILE: Final = "journal.jsonl"
WAYS: Final = ("scored", "database", "cache")
"""Where each reading of the canary must arrive."""
ALERT_WAYS: Final = ("alert", "alert in database")
"""Where each of its anomalies must arrive as well."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """One start of the stack; a resumed run has several."""

    at: float
    broker: str
    load: str
    canary_seconds: float
    """From one reading of the canary to the next."""
    bound_seconds: float
    """How soon its readings must be everywhere."""
    kill_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process of the stack at one moment, with what it started."""

    pid: int
    rss_mb: float
    cpu_seconds: float
    """Since its start."""
    files: int
    """Open file descriptors; 0 where that cannot be seen."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The stack at one moment."""

    at: float
    processes: dict[str, Process]
    lags: dict[str, int]
    """By consumer group; empty when the broker did not answer."""
    ends: dict[str, int]
    """Events ever written to each topic: the sum of its end offsets."""
    disk_mb: dict[str, float] = field(default_factory=dict)
    """By folder of the state directory; looked at less often, so mostly empty."""
    cpu_busy: float = 0.0
    """Share of all cores of the machine that anything used since the sample before (0..1)."""


@dataclass(frozen=True, kw_only=True)
class Canary:
    """One reading of the canary: how long (s) until it had arrived in each way, None if it never did."""

    seq: int
    at: float
    is_anomaly: bool
    arrived: dict[str, float | None]
    is_wrong: bool = False
    """It arrived with another value than it was sent with."""
    was_noticed: bool = False
    """The detectors called it an anomaly."""


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A process that was killed on purpose, and how long until its successor was ready; None if not in time."""

    at: float
    name: str
    ready_after: float | None


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Something that must not happen, in one line."""

    at: float
    text: str


Record = Session | Sample | Canary | Kill | Trouble
_KINDS: Final[dict[str, type[Record]]] = {kind.__name__: kind for kind in (Session, Sample, Canary, Kill, Trouble)}


@dataclass
class Run:
    """All that was noted of one run."""

    sessions: list[Session] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    canaries: list[Canary] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Take a record in."""
        {
            Session: self.sessions,
            Sample: self.samples,
            Canary: self.canaries,
            Kill: self.kills,
            Trouble: self.troubles,
        }[type(record)].append(record)  # type: ignore[attr-defined]

    def session_of(self, at: float) -> int:
        """Return the number of the session that a moment is in, from 1."""
        return bisect_right([session.at for session in self.sessions], at)

    @property
    def seconds(self) -> float:
        """How long the stack was watched, the pauses between sessions left out."""
        spans: dict[int, list[float]] = defaultdict(list)
        for sample in self.samples:
            spans[self.session_of(sample.at)].append(sample.at)
        return sum(times[-1] - times[0] for times in spans.values())


class Journal:
    """Appends records to the file as they come, and keeps them."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self.run = Run()
        if self._path.exists():
            whole = self._path.read_bytes().rpartition(b"\n")
            os.truncate(self._path, len(whole[0] + whole[1]))  # the half line that a kill left
            self.run = read(folder)
        self._file: IO[str] = self._path.open("a", encoding="utf-8")

    def add(self, record: Record) -> None:
        """Note a record down."""
        self.run.add(record)
        line: dict[str, Any] = {"kind": type(record).__name__, **asdict(record)}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(folder: Path) -> Run:
    """Read a journal; the half line that a kill left at its end is not there."""
    run = Run()
    text = (folder / FILE).read_text(encoding="utf-8")
    for line in text[: text.rfind("\n") + 1].splitlines():
        fields = json.loads(line)
        kind = _KINDS[fields.pop("kind")]
        if kind is Sample:
            fields["processes"] = {name: Process(**process) for name, process in fields["processes"].items()}
        run.add(kind(**fields))
    return run
