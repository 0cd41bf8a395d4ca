"""Results of a replay: a folder with the alerts as JSON lines, and a recording of what else the engine derived.

    results.json     what was replayed with what, counts, and a SHA-256 of every output of every lane
    alerts.jsonl     alerts as they fired and resolved, lane by lane
    truth.jsonl      injected faults, where the recording has them; feedback.jsonl likewise what people said
    manifest.json    counts and dead letters (and scores, when asked for) as a recording; partitions are lane numbers

The same recording gives the same bytes: nothing in there tells when, where or how fast it was replayed.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fleetwatch import avro, topics
from fleetwatch.errors import EnvironmentProblemError, RefusedError
from fleetwatch.record_batch import Records, join
from fleetwatch.recording import manifest
from fleetwatch.recording.disk import writing
from fleetwatch.recording.form import form_of
from fleetwatch.recording.manifest import Manifest, Topic
from fleetwatch.recording.rows import Messages, gathered
from fleetwatch.recording.writer import SUFFIX, PartWriter
from fleetwatch.records import Action, Alert, AlertAction, GroundTruth, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from fleetwatch.byte_column import ByteColumn
    from fleetwatch.recording.reader import Recording
    from streams.batch import Outputs
    from streams.lane import Lane
    from streams.replay.engine import ReplaySettings

FORMAT: Final = 1
BLOCK_EVENTS: Final = 4096
KEPT: Final = (topics.COUNTS, topics.DEAD_LETTERS)
"""What is kept besides alerts; scores, by far the most, only when they are asked for."""


def plain(record: Record) -> dict[str, Any]:
    """Return a record for JSON: times in ISO 8601, enums by their names."""
    return {item.name: _plain(getattr(record, item.name)) for item in fields(record)}  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value.value if isinstance(value, Enum) else value


class _Output:
    """One output topic of one lane: digest, count, and (if kept) a file of blocks of one size in events."""

    def __init__(self, path: Path | None, topic: str, number: int) -> None:
        self.messages = 0
        self.digest = hashlib.sha256()
        self.number = number
        if path is not None:
            path.parent.mkdir(exist_ok=True)
        self.part = None if path is None else PartWriter(path, form_of(topic))
        self._waiting: list[Records] = []

    def add(self, keys: ByteColumn, values: ByteColumn) -> None:
        values = gathered(values)
        self.digest.update(values.buffer.data)
        first, count = self.messages, len(values)
        self.messages += count
        if self.part is None:
            return
        numbers = np.arange(first, first + count, dtype=np.int64)
        self._waiting.append(Records(numbers, np.zeros(count, np.int64), gathered(keys), values))  # no broker, no time
        if first // BLOCK_EVENTS < self.messages // BLOCK_EVENTS:
            whole = join(self._waiting)
            full = len(whole) // BLOCK_EVENTS * BLOCK_EVENTS
            for start in range(0, full, BLOCK_EVENTS):
                self._write(whole[start : start + BLOCK_EVENTS])
            rest = whole[full:]
            self._waiting = [Records(rest.offsets, rest.times, gathered(rest.keys), gathered(rest.values))]

    def finish(self) -> None:
        if self._waiting and len(whole := join(self._waiting)):
            self._write(whole)

    def _write(self, records: Records) -> None:
        assert self.part is not None
        partitions = np.full(len(records), self.number, np.int64)
        self.part.append(Messages(partitions, records.offsets, records.times, records.keys, records.values))


@dataclass
class _LaneResult:
    topic: str
    partition: int
    counters: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, _Output] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)


class ResultsWriter:
    """Takes what the lanes derive and writes it down.

    Raises:
        EnvironmentProblemError: the folder is there already, or cannot be made.

    """

    def __init__(self, folder: Path, *, with_scores: bool = False) -> None:
        self.folder = folder
        self._kept = (*KEPT, topics.SCORED) if with_scores else KEPT
        self._lanes: dict[tuple[str, int], _LaneResult] = {}
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise EnvironmentProblemError(f"{folder} is there already: give another --out, or remove it") from None
        except OSError as error:
            raise EnvironmentProblemError(f"cannot make {folder}: {error.strerror}") from None

    def take(self, lane: Lane, outputs: Outputs) -> None:
        """Take outputs of a lane, in its order.

        Raises:
            EnvironmentProblemError: the disk refuses.

        """
        with self._writing():
            self._take(lane, outputs)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with writing(self.folder):
                yield
        except BaseException:
            for lane in self._lanes.values():
                for output in lane.outputs.values():
                    if output.part is not None:
                        output.part.abandon()
            raise

    def _take(self, lane: Lane, outputs: Outputs) -> None:
        place = (lane.source.topic, lane.partition)
        result = self._lanes.get(place)
        if result is None:
            result = self._lanes[place] = _LaneResult(*place)
        for name, count in outputs.counters.items():
            result.counters[name] = result.counters.get(name, 0) + count
        for topic, keys, values in outputs.blocks:
            output = result.outputs.get(topic)
            if output is None:
                number = _lane_number(*place)
                path = self.folder / topic / f"{number:05}{SUFFIX}" if topic in self._kept else None
                output = result.outputs[topic] = _Output(path, topic, number)
            output.add(keys, values)
            if topic == topics.ALERTS:
                result.alerts += [avro.decode(value, Alert) for value in values.to_list()]

    def close(self, recording: Recording, settings: ReplaySettings, model_versions: dict[str, str]) -> dict[str, Any]:
        """Write everything down and return what is in ``results.json``.

        Raises:
            EnvironmentProblemError: the disk refuses.

        """
        with self._writing():
            return self._close(recording, settings, model_versions)

    def _close(self, recording: Recording, settings: ReplaySettings, model_versions: dict[str, str]) -> dict[str, Any]:
        lanes = [result for _, result in sorted(self._lanes.items(), key=lambda item: _lane_number(*item[0]))]
        _write_lines(self.folder / "alerts.jsonl", (plain(alert) for lane in lanes for alert in lane.alerts))
        _write_lines(self.folder / "truth.jsonl", map(plain, _records(recording, topics.TRUTH, GroundTruth)))
        said = (Action.FEEDBACK_REAL, Action.FEEDBACK_FALSE)
        actions = _records(recording, topics.ALERT_ACTIONS, AlertAction)
        _write_lines(self.folder / "feedback.jsonl", (plain(action) for action in actions if action.action in said))
        parts: dict[str, list[manifest.Part]] = {topic: [] for topic in self._kept}
        for lane in lanes:
            for topic, output in lane.outputs.items():
                output.finish()
                if output.part is not None:
                    parts[topic].append(output.part.close(self.folder))
        numbers = 1 + max((_lane_number(*place) for place in self._lanes), default=0)
        kept = {topic: Topic.of(numbers, some) for topic, some in parts.items()}
        manifest.save(self.folder, Manifest(is_complete=True, topics=kept))
        facts = _facts(lanes, recording, settings, model_versions)
        (self.folder / "results.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return facts


def _lane_number(topic: str, partition: int) -> int:
    """Return a number for each lane: those of readings are even, those of detections odd."""
    return partition * len(topics.INPUTS) + topics.INPUTS.index(topic)


def _records(recording: Recording, topic: str, record_type: type[Record]) -> Iterable[Any]:
    """Yield the records of a recorded topic; what cannot be read is no record."""
    for rows in recording.rows(topic):
        for value in rows.values().to_list():
            try:
                yield avro.decode(value, record_type)
            except RefusedError:
                continue


def _write_lines(path: Path, items: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for item in items:
            file.write(json.dumps(item, ensure_ascii=False) + "\n")


def _facts(
    lanes: list[_LaneResult], recording: Recording, settings: ReplaySettings, model_versions: dict[str, str]
) -> dict[str, Any]:
    windows = settings.lane.windows
    counters: dict[str, int] = {}
    for lane in lanes:
        for name, count in lane.counters.items():
            counters[name] = counters.get(name, 0) + count
    return {
        "format": FORMAT,
        "clock_ends_ms": recording.clock_end_ms(),
        "rules": [json.loads(rule.model_dump_json()) for rule in settings.lane.rules],
        "detection": json.loads(settings.lane.tunings.model_dump_json()),
        "models": model_versions,
        "settings": {
            "windows": asdict(windows),
            "idle_ms": settings.idle_ms,
            "max_skew_ms": settings.lane.max_skew_ms,
            "warm_up": settings.lane.warm_up,
        },
        "counters": counters,
        "lanes": [
            {
                "topic": lane.topic,
                "partition": lane.partition,
                "number": _lane_number(lane.topic, lane.partition),
                "counters": lane.counters,
                "outputs": {
                    topic: {"messages": output.messages, "sha256": output.digest.hexdigest()}
                    for topic, output in lane.outputs.items()
                },
            }
            for lane in lanes
        ],
    }
