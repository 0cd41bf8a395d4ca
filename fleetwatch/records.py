"""The records that the parts exchange, as rows. One class per schema in ``schemas/``, with the same fields.

Datetimes are aware (UTC); every class is frozen and keyword-only. For batches see ``fleetwatch.columns``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MAX_RAW_BYTES = 64 * 1024
"""A dead letter keeps at most this much of the raw value (and key)."""


class Quality(Enum):
    """The device's own opinion of a measurement."""

    GOOD = "GOOD"
    UNCERTAIN = "UNCERTAIN"
    BAD = "BAD"


class Verdict(Enum):
    """What the detectors together say of a reading."""

    NORMAL = "NORMAL"
    ANOMALY = "ANOMALY"
    UNKNOWN = "UNKNOWN"


class DetectorState(Enum):
    """Whether the scores of a reading mean something yet."""

    WARMING_UP = "WARMING_UP"
    READY = "READY"


class Scope(Enum):
    """What the key of a window names."""

    DEVICE = "DEVICE"
    SITE = "SITE"
    SENSOR_TYPE = "SENSOR_TYPE"
    LABEL = "LABEL"
    DEVICE_LABEL = "DEVICE_LABEL"


class RuleKind(Enum):
    """What an alert rule looks at."""

    ANOMALY = "ANOMALY"
    LEVEL = "LEVEL"
    COUNT = "COUNT"
    SILENCE = "SILENCE"
    SURGE = "SURGE"
    DRIFT = "DRIFT"


class Severity(Enum):
    """How much an alert matters."""

    INFO = "INFO"
    WARNING = "WARNING"
    CRITICAL = "CRITICAL"


class AlertState(Enum):
    """FIRING once when it begins, RESOLVED once when it ends."""

    FIRING = "FIRING"
    RESOLVED = "RESOLVED"


class Action(Enum):
    """What a person can do about an alert."""

    ACKNOWLEDGE = "ACKNOWLEDGE"
    MUTE = "MUTE"
    UNMUTE = "UNMUTE"
    RESOLVE = "RESOLVE"
    FEEDBACK_REAL = "FEEDBACK_REAL"
    FEEDBACK_FALSE = "FEEDBACK_FALSE"


class ModelStatus(Enum):
    """Life of a trained model."""

    SHADOW = "SHADOW"
    ACTIVE = "ACTIVE"
    RETIRED = "RETIRED"


class FaultKind(Enum):
    """What the simulator injects; LABELLED is a labelled anomaly of a replayed data set.

    In an OUTAGE devices of one site fall silent together: one fault each, from one cause.
    """

    SPIKE = "SPIKE"
    DRIFT = "DRIFT"
    STUCK = "STUCK"
    DROPOUT = "DROPOUT"
    NOISE = "NOISE"
    SURGE = "SURGE"
    LABELLED = "LABELLED"
    OUTAGE = "OUTAGE"


class Stage(Enum):
    """Which step refused an event."""

    DECODE = "DECODE"
    VALIDATE = "VALIDATE"
    SCORE = "SCORE"
    STORE = "STORE"
    NOTIFY = "NOTIFY"


class Reason(Enum):
    """Why an event was refused."""

    EMPTY_VALUE = "EMPTY_VALUE"
    TOO_LARGE = "TOO_LARGE"
    NOT_FRAMED = "NOT_FRAMED"
    UNKNOWN_SCHEMA = "UNKNOWN_SCHEMA"
    WRONG_SCHEMA = "WRONG_SCHEMA"
    TRUNCATED = "TRUNCATED"
    TRAILING_BYTES = "TRAILING_BYTES"
    MALFORMED = "MALFORMED"
    EMPTY_KEY = "EMPTY_KEY"
    KEY_MISMATCH = "KEY_MISMATCH"
    NOT_A_NUMBER = "NOT_A_NUMBER"
    INFINITE = "INFINITE"
    TOO_FAR_AHEAD = "TOO_FAR_AHEAD"
    SCORING_FAILED = "SCORING_FAILED"
    STORE_REFUSED = "STORE_REFUSED"
    NOTIFY_REFUSED = "NOTIFY_REFUSED"


class Record:
    """Base of all records: checks on construction that every datetime is aware."""

    def __post_init__(self) -> None:
        for name in _times_of(self):
            value = getattr(self, name)
            if value is not None and value.tzinfo is None:
                raise ValueError(f"{type(self).__name__}.{name} has no time zone")


_times: dict[type, tuple[str, ...]] = {}
"""The fields that hold a time, by class: looked up once, since every record asks."""


def _times_of(record: Any) -> tuple[str, ...]:
    kind = type(record)
    if kind not in _times:
        _times[kind] = tuple(field.name for field in fields(kind) if "datetime" in str(field.type))
    return _times[kind]


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorReading(Record):
    """One measurement of one channel of one device. Identity: device_id, event_time, seq."""

    device_id: str
    sensor_type: str
    site: str
    event_time: datetime
    seq: int
    value: float
    unit: str
    quality: Quality = Quality.GOOD


@dataclass(frozen=True, kw_only=True, slots=True)
class Box(Record):
    """Where in the frame: left, top, width, height as fractions of the frame."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraDetection(Record):
    """One object seen by one camera. Identity: camera_id, event_time, seq."""

    camera_id: str
    site: str
    event_time: datetime
    seq: int
    label: str
    confidence: float
    box: Box
    track_id: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredReading(Record):
    """A reading with its scores, 0..1, higher is stranger; None while warming up. Identity as of the reading."""

    device_id: str
    sensor_type: str
    site: str
    event_time: datetime
    seq: int
    value: float
    unit: str
    quality: Quality
    online_score: float | None
    batch_score: float | None
    score: float | None
    verdict: Verdict
    state: DetectorState
    online_model: str
    batch_model: str
    is_late: bool
    ingest_time: datetime
    source_partition: int
    source_offset: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowCount(Record):
    """Aggregates of one window of one key in one partition; start inclusive, end exclusive.

    Identity: scope, key, window_start, window_end, source_topic, source_partition. A row is never replaced by
    one of lower (is_final, included_offset).
    """

    scope: Scope
    key: str
    window_start: datetime
    window_end: datetime
    source_topic: str
    source_partition: int
    count: int
    sum: float
    sum_of_squares: float
    min: float
    max: float
    late_count: int
    included_offset: int
    is_final: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert(Record):
    """One change (FIRING or RESOLVED) of an alert. Identity: alert_id, state."""

    alert_id: str
    rule: str
    kind: RuleKind
    fingerprint: str
    device_id: str
    site: str
    severity: Severity
    state: AlertState
    started_at: datetime
    ended_at: datetime | None
    value: float
    threshold: float
    summary: str
    ingest_time: datetime
    source_topic: str
    source_partition: int
    source_offset: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertAction(Record):
    """What somebody did about an alert. Identity: action_id.

    A mute is for one alert, one device, one rule, or everything: alert_id, device_id and rule name it, or are empty.
    """

    action_id: str
    alert_id: str
    device_id: str
    action: Action
    who: str
    at: datetime
    until: datetime | None = None
    note: str = ""
    rule: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric(Record):
    """A named number of a model version."""

    name: str
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVersion(Record):
    """A trained model and its status. Identity: sensor_type, version."""

    sensor_type: str
    version: str
    algorithm: str
    status: ModelStatus
    location: str
    trained_at: datetime
    training_rows: int
    metrics: tuple[Metric, ...] = ()
    changed_at: datetime = _EPOCH
    previous: str = ""
    training_from: datetime | None = None
    training_until: datetime | None = None
    fingerprint: str = ""
    note: str = ""
    features: tuple[str, ...] = ()
    parameters: tuple[Metric, ...] = ()

    @property
    def key(self) -> bytes:
        """The key of its messages."""
        return f"{self.sensor_type}/{self.version}".encode()

    def metric(self, name: str) -> float | None:
        """Return a metric by its name; None if it has none of that name."""
        return next((metric.value for metric in self.metrics if metric.name == name), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelComparison(Record):
    """A shadow model beside the one in force, on one partition, so far. Identity: sensor_type, version, partition."""

    sensor_type: str
    version: str
    against: str
    partition: int
    readings: int
    alarms: int
    alarms_against: int
    strange_both: int
    strange_either: int
    difference_sum: float
    since: datetime
    until: datetime

    @property
    def key(self) -> bytes:
        """The key of its messages."""
        return f"{self.sensor_type}/{self.version}/{self.partition}".encode()


@dataclass(frozen=True, kw_only=True, slots=True)
class GroundTruth(Record):
    """A fault that the simulator injected; for evaluation only. Identity: fault_id."""

    fault_id: str
    device_id: str
    kind: FaultKind
    started_at: datetime
    ended_at: datetime
    magnitude: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter(Record):
    """An event refused for good. Identity: topic, partition, offset, stage."""

    topic: str
    partition: int
    offset: int
    broker_time: datetime
    stage: Stage
    reason: Reason
    detail: str
    raw_key: bytes | None
    raw_value: bytes | None
    value_length: int
    value_sha256: str

    @classmethod
    def of(  # noqa: PLR0913  # the position and the verdict of one event, all named
        cls,
        *,
        topic: str,
        partition: int,
        offset: int,
        broker_time: datetime,
        key: bytes | None,
        value: bytes | None,
        stage: Stage,
        reason: Reason,
        detail: str,
    ) -> DeadLetter:
        """Make a dead letter of a raw event: keeps at most 64 KB of it, with length and SHA-256 of the whole."""
        whole = value or b""
        return cls(
            topic=topic,
            partition=partition,
            offset=offset,
            broker_time=broker_time,
            stage=stage,
            reason=reason,
            detail=detail[:500],
            raw_key=None if key is None else key[:MAX_RAW_BYTES],
            raw_value=None if value is None else value[:MAX_RAW_BYTES],
            value_length=len(whole),
            value_sha256=hashlib.sha256(whole).hexdigest(),
        )


def from_millis(millis: int) -> datetime:
    """Milliseconds since 1970 as an aware datetime."""
    return _EPOCH + timedelta(milliseconds=millis)


def to_millis(time: datetime) -> int:
    """Milliseconds since 1970; exact, unlike ``int(time.timestamp() * 1000)``."""
    delta = time - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000
