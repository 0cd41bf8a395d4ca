"""What a file of a recording looks like: the Avro schema of its rows, made from the topic's record.

A row is ``partition, offset, broker_time, event_time, key, headers, value_size, value``. The value is a union: null,
bytes (as it came, with its frame: whatever is no Avro of the topic's record), or the record itself, one branch a
schema version. ``value_size`` is the length of the value's encoding, so that a reader can pass over it.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from fastavro.schema import to_parsing_canonical_form

from fleetwatch import avro, records, topics
from fleetwatch.recording.kernels import RAW

if TYPE_CHECKING:
    from numpy.typing import NDArray

RECORD_OF: Final[dict[str, type[records.Record]]] = {
    topics.READINGS: records.SensorReading,
    topics.DETECTIONS: records.CameraDetection,
    topics.SCORED: records.ScoredReading,
    topics.COUNTS: records.WindowCount,
    topics.ALERTS: records.Alert,
    topics.ALERT_ACTIONS: records.AlertAction,
    topics.MODELS: records.ModelVersion,
    topics.MODEL_COMPARISONS: records.ModelComparison,
    topics.TRUTH: records.GroundTruth,
    topics.DEAD_LETTERS: records.DeadLetter,
}

HEADERS: Final[dict[str, Any]] = {
    "type": "array",
    "items": {
        "type": "record",
        "name": "Header",
        "namespace": "fleetwatch.recorded",
        "fields": [{"name": "name", "type": "string"}, {"name": "value", "type": ["null", "bytes"]}],
    },
}
"""The Avro schema of a message's headers."""


def record_of(topic: str) -> type[records.Record] | None:
    """Return the record of a topic, also of one with a prefix (``what-if.fleet.readings``), or None."""
    for name, record_type in RECORD_OF.items():
        if topic == name or topic.endswith(f".{name}"):
            return record_type
    return None


def fingerprint(schema: Any) -> str:
    """Return the SHA-256 of a schema's canonical form, hex."""
    return hashlib.sha256(to_parsing_canonical_form(schema).encode()).hexdigest()


@dataclass(frozen=True)
class WriterSchema:
    """A schema that values of a file may have: its name, the id in their frames, and what it is."""

    name: str
    id: int
    fingerprint: str


@dataclass(frozen=True)
class Form:
    """Topic of a file and the schemas that its values may have; branch 2 is the first of them."""

    topic: str
    schemas: tuple[WriterSchema, ...]

    @property
    def branches(self) -> int:
        """How many branches a value has."""
        return RAW + 1 + len(self.schemas)

    @cached_property
    def frames(self) -> NDArray[np.uint8]:
        """The five bytes in front of a value, by branch: with the id that the schema has in this installation."""
        frames = np.zeros((self.branches, 5), np.uint8)
        for number, schema in enumerate(self.schemas, RAW + 1):
            schema_id = avro.schema_ids().get(schema.name, schema.id)
            frames[number] = np.frombuffer(avro.MAGIC + struct.pack(">I", schema_id), np.uint8)
        return frames

    def branch_of(self, schema_id: int) -> int | None:
        """Return the branch of a schema id."""
        return next((number for number, schema in enumerate(self.schemas, RAW + 1) if schema.id == schema_id), None)

    def row_schema(self) -> dict[str, Any]:
        """Return the Avro schema of the rows.

        Every version gets a namespace of its own: a union cannot hold two types of one name.
        """
        millis = {"type": "long", "logicalType": "timestamp-millis"}
        bodies = [
            avro.load_schema(schema.name) | {"namespace": f"fleetwatch.recorded.{schema.name.replace('.', '_')}"}
            for schema in self.schemas
        ]
        return {
            "type": "record",
            "name": "Recorded",
            "namespace": "fleetwatch.recorded",
            "doc": f"A message of {self.topic}.",
            "fields": [
                {"name": "partition", "type": "int"},
                {"name": "offset", "type": "long"},
                {"name": "broker_time", "type": millis, "doc": "The message's timestamp."},
                {"name": "event_time", "type": ["null", millis], "doc": "When it happened, as the value says."},
                {"name": "key", "type": ["null", "bytes"]},
                {"name": "headers", "type": HEADERS},
                {"name": "value_size", "type": "int", "doc": "Bytes of the next field."},
                {"name": "value", "type": ["null", "bytes", *bodies], "doc": "Bytes: as it came."},
            ],
        }


@cache
def form_of(topic: str) -> Form:
    """Return the form that a topic is recorded in now: with every version of its record."""
    record_type = record_of(topic)
    if record_type is None:
        return Form(topic, ())
    name = avro.schema_name(record_type)
    ids = avro.schema_ids()
    versions = sorted((key for key in ids if key.rsplit(".v", 1)[0] == name), key=lambda key: int(key.split(".v")[-1]))
    return Form(topic, tuple(WriterSchema(key, ids[key], fingerprint(avro.load_schema(key))) for key in versions))


def form_to_json(form: Form) -> str:
    """Return a form for the metadata of a file."""
    return json.dumps([vars(schema) for schema in form.schemas])


def form_from_json(topic: str, text: bytes) -> Form:
    """Return the form of a file.

    Raises:
        ValueError, TypeError: the text is none.

    """
    return Form(topic, tuple(WriterSchema(**facts) for facts in json.loads(text)))
