"""Bytewax: batches through the dataflow, a stateful count per device. No recovery store: nothing survives it."""

import bytewax.operators as op
import job
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow

_CONFIG = {key: str(value) for key, value in job.CONSUMER.items() if key.startswith("fetch")}
_PRODUCER = {key: str(value) for key, value in job.PRODUCER.items() if key != "bootstrap.servers"}
trees = job.Trees()


def decode(messages):
    rows = []
    for message in messages:
        reading = job.decode(message.value)
        rows.append((reading["device_id"], (reading, message.timestamp[1])))
    return rows


def count(state, row):
    reading, ingest_ms = row
    window = reading["event_time"] // job.WINDOW_MS
    number = state[1] + 1 if state is not None and state[0] == window else 1
    return (window, number), (reading, ingest_ms, number)


def score(rows):
    return [
        KafkaSinkMessage(device.encode(), job.encode(reading, number, trees.score(reading), ingest_ms))
        for device, (reading, ingest_ms, number) in rows
    ]


flow = Dataflow("bench")
messages = op.input("in", flow, KafkaSource([job.BROKERS], [job.INPUT], batch_size=1000, add_config=_CONFIG))
rows = op.flat_map_batch("decode", messages, decode)
counted = op.stateful_map("count", rows, count)
scored = op.flat_map_batch("score", counted, score)
op.output(
    "out",
    scored,
    KafkaSink([job.BROKERS], job.OUTPUT, add_config=_PRODUCER | {"queue.buffering.max.messages": "500000"}),
)
