"""Pathway: one function over batches decodes, scores and encodes, a grouped count beside it. No persistence.

A running count inside the record would need a join with the counts, which are tables that change: they go to a topic of
their own instead. The broker's time of a reading would come as JSON (`with_metadata`), so the record has none.
"""

import job
import pathway as pw

SETTINGS = {key: str(value) for key, value in job.CONSUMER.items()}
PRODUCER = {key: str(value) for key, value in (job.PRODUCER | job.LARGE_QUEUE).items()}
trees = job.Trees()


@pw.udf(deterministic=True, max_batch_size=1024)  # that is: keep no memory of results
def score(values: list[bytes]) -> list[tuple[str, int, bytes]]:
    scored = []
    for value in values:
        reading = job.decode(value)
        window = reading["event_time"] // job.WINDOW_MS * job.WINDOW_MS
        scored.append((reading["device_id"], window, job.encode(reading, 0, trees.score(reading), 0)))
    return scored


messages = pw.io.kafka.read(
    SETTINGS,
    job.INPUT,
    format="raw",
    autocommit_duration_ms=100,
    autogenerate_key=True,
    max_backlog_size=50_000,
)
results = messages.select(pw.this.key, result=score(pw.this.data))
scored = results.select(pw.this.key, device=pw.this.result[0], window=pw.this.result[1], record=pw.this.result[2])
counts = scored.groupby(pw.this.device, pw.this.window).reduce(
    pw.this.device, pw.this.window, count=pw.reducers.count()
)
pw.io.kafka.write(scored, PRODUCER, job.OUTPUT, format="raw", key=pw.this.key, value=pw.this.record)
pw.io.kafka.write(counts, PRODUCER, job.COUNTS, format="json")
pw.run(monitoring_level=pw.MonitoringLevel.NONE)
