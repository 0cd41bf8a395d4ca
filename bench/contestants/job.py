"""The job's record handling, the same for every contestant that works event by event: fastavro and River.

Environment of every contestant: BENCH_BROKERS, BENCH_GROUP, BENCH_OUTPUT, BENCH_COUNTS (a topic for
counts, where they are not part of the output), BENCH_STATE (an empty folder).
"""

import json
import os
from io import BytesIO
from pathlib import Path

import fastavro
from river.anomaly import HalfSpaceTrees

BROKERS = os.environ["BENCH_BROKERS"]
GROUP = os.environ["BENCH_GROUP"]
INPUT = "fleet.readings"
OUTPUT = os.environ["BENCH_OUTPUT"]
COUNTS = os.environ["BENCH_COUNTS"]
STATE = os.environ["BENCH_STATE"]
WINDOW_MS = 10_000
LIMITS = (0.0, 40.0)

CONSUMER = {
    "bootstrap.servers": BROKERS,
    "group.id": GROUP,
    "auto.offset.reset": "earliest",
    "fetch.queue.backoff.ms": 5,
    "fetch.wait.max.ms": 5,
}
PRODUCER = {"bootstrap.servers": BROKERS, "acks": "all", "linger.ms": 5, "compression.type": "lz4"}
LARGE_QUEUE = {"queue.buffering.max.messages": 500_000}


def _without_logical_types(schema):
    """Times stay integers: making datetimes costs a microsecond each, and nobody here needs them."""
    if isinstance(schema, dict):
        return {key: _without_logical_types(value) for key, value in schema.items() if key != "logicalType"}
    if isinstance(schema, list):
        return [_without_logical_types(value) for value in schema]
    return schema


_SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
READING = fastavro.parse_schema(
    _without_logical_types(json.loads((_SCHEMAS / "sensor_reading.v1.avsc").read_text(encoding="utf-8")))
)
SCORED = fastavro.parse_schema(json.loads(Path(__file__).with_name("scored.avsc").read_text(encoding="utf-8")))
SCORED_HEAD = b"\x00" + (9001).to_bytes(4, "big")


def decode(value):
    stream = BytesIO(value)
    stream.seek(5)
    return fastavro.schemaless_reader(stream, READING, None)


def encode(reading, count, score, ingest_ms):
    stream = BytesIO()
    stream.write(SCORED_HEAD)
    fastavro.schemaless_writer(
        stream,
        SCORED,
        {
            "device_id": reading["device_id"],
            "event_time": reading["event_time"],
            "seq": reading["seq"],
            "value": reading["value"],
            "count": count,
            "score": score,
            "ingest_time": ingest_ms,
        },
    )
    return stream.getvalue()


class Trees:
    """River's half-space trees, one model a sensor type: score first, learn after."""

    def __init__(self):
        self.models = {}

    def score(self, reading):
        kind = reading["sensor_type"]
        model = self.models.get(kind)
        if model is None:
            model = self.models[kind] = HalfSpaceTrees(
                n_trees=10, height=8, window_size=250, limits={"value": LIMITS}, seed=42
            )
        x = {"value": reading["value"]}
        score = model.score_one(x)
        model.learn_one(x)
        return score
