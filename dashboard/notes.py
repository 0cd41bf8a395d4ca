"""What is said beside the readings: acknowledgements, models and their comparisons, dead letters. A bounded fold, pure.

Repeated events and their order make no difference: the first acknowledgement of an alert counts, the newest
message of a model version, and a dead letter is known by its position.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from heapq import nlargest
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from fleetwatch.records import (
    Action,
    AlertAction,
    DeadLetter,
    ModelComparison,
    ModelVersion,
    Reason,
    Stage,
    to_millis,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

MAX_ACKNOWLEDGED: Final = 5_000
MAX_MODELS: Final = 2_000
MAX_COMPARISONS: Final = 4_000
MAX_REFUSALS: Final = 50
SHOWN_KEY_BYTES: Final = 80

K = TypeVar("K")
V = TypeVar("V")


class Refusal(NamedTuple):
    """A dead letter without its raw value."""

    at_ms: int
    topic: str
    partition: int
    offset: int
    stage: Stage
    reason: Reason
    detail: str
    key: str


class Told(NamedTuple):
    """A model version as last announced."""

    model: ModelVersion
    broker_ms: int
    offset: int

    @property
    def order(self) -> tuple[datetime, int, int]:
        """Greater is newer; the first schema version does not say when a status began."""
        return max(self.model.changed_at, self.model.trained_at), self.broker_ms, self.offset


@dataclass(frozen=True, slots=True)
class Notes:
    """All of it. Replaced as a whole, never changed."""

    acknowledged: Mapping[str, AlertAction] = field(default_factory=dict)
    models: Mapping[tuple[str, str], Told] = field(default_factory=dict)
    comparisons: Mapping[tuple[str, str, int], ModelComparison] = field(default_factory=dict)
    """By sensor type, version and partition: the one that includes the latest reading."""
    refusals: tuple[Refusal, ...] = ()
    """The newest, in order of time."""


class Note(NamedTuple):
    """A decoded record and where it came from."""

    record: AlertAction | ModelVersion | ModelComparison | DeadLetter
    broker_ms: int
    offset: int


def fold_notes(notes: Notes, arrivals: Iterable[Note]) -> Notes:
    """Return the notes after these arrivals."""
    acknowledged = dict(notes.acknowledged)
    models = dict(notes.models)
    comparisons = dict(notes.comparisons)
    refusals = set(notes.refusals)
    for record, broker_ms, offset in arrivals:
        match record:
            case AlertAction(action=Action.ACKNOWLEDGE):
                known = acknowledged.get(record.alert_id)
                if known is None or (record.at, record.action_id) < (known.at, known.action_id):
                    acknowledged[record.alert_id] = record
            case ModelVersion():
                identity = (record.sensor_type, record.version)
                told, earlier = Told(record, broker_ms, offset), models.get(identity)
                if earlier is None or told.order >= earlier.order:
                    models[identity] = told
            case ModelComparison():
                place = (record.sensor_type, record.version, record.partition)
                compared = comparisons.get(place)
                if compared is None or record.until >= compared.until:
                    comparisons[place] = record
            case DeadLetter():
                refusals.add(_refusal(record))
    return replace(
        notes,
        acknowledged=_newest(acknowledged, MAX_ACKNOWLEDGED, {k: v.at.timestamp() for k, v in acknowledged.items()}),
        models=_newest(models, MAX_MODELS, {k: float(told.broker_ms) for k, told in models.items()}),
        comparisons=_newest(
            comparisons, MAX_COMPARISONS, {k: record.until.timestamp() for k, record in comparisons.items()}
        ),
        refusals=tuple(sorted(refusals, key=lambda refusal: refusal[:4])[-MAX_REFUSALS:]),
    )


def _refusal(letter: DeadLetter) -> Refusal:
    key = (letter.raw_key or b"")[:SHOWN_KEY_BYTES].decode("utf-8", "replace")
    return Refusal(
        to_millis(letter.broker_time), letter.topic, letter.partition, letter.offset,
        letter.stage, letter.reason, letter.detail, key,
    )  # fmt: skip


def _newest(known: dict[K, V], limit: int, rank: Mapping[K, float]) -> dict[K, V]:
    if len(known) <= limit:
        return known
    return {key: known[key] for key in nlargest(limit, known, key=lambda key: rank[key])}
