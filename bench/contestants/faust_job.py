"""Faust as its tutorial does it: one event at a time, a tumbling table, every update in the table's changelog."""

from datetime import timedelta

import faust
import job

app = faust.App(
    job.GROUP,
    broker=f"kafka://{job.BROKERS}",
    consumer_auto_offset_reset="earliest",
    value_serializer="raw",
    store="memory://",
    datadir=job.STATE,
    topic_partitions=4,
    topic_disable_leader=True,
    topic_allow_declare=False,  # the embedded broker makes topics by itself
    web_enabled=False,
)
readings = app.topic(job.INPUT, key_type=str, value_type=bytes)
scored = app.topic(job.OUTPUT, key_type=str, value_type=bytes)
_now = [0.0]
counts = (
    app.Table("counts", default=int, partitions=4)
    .tumbling(timedelta(milliseconds=job.WINDOW_MS), expires=timedelta(hours=1))
    .relative_to(lambda _event: _now[0])  # event time, decoded below
)
trees = job.Trees()


@app.agent(readings)
async def score_readings(stream):
    async for event in stream.events():
        reading = job.decode(event.value)
        device = reading["device_id"]
        _now[0] = reading["event_time"] / 1000
        counts[device] += 1
        record = job.encode(reading, counts[device].value(), trees.score(reading), int(event.message.timestamp * 1000))
        await scored.send(key=device, value=record)
