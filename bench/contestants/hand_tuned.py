"""The hand-written loop, tuned: fastavro decodes, numba keeps the trees and writes the records of a whole batch.

Offsets are committed by the client's timer, counts and trees are in memory only: nothing survives it.
"""

import job
import numpy as np
from confluent_kafka import Consumer, Producer
from fastavro import schemaless_reader
from numba import njit

N_TREES, HEIGHT, WINDOW = 10, 8, 250
NODES = 2 ** (HEIGHT + 1) - 1


def grow():
    """River's trees as arrays: the threshold of each inner node, and whether small values go left."""
    trees = job.Trees()
    trees.score({"sensor_type": "any", "value": 20.0})
    model = trees.models["any"]
    thresholds = np.zeros((N_TREES, NODES))

    def place(node, tree, at):
        children = getattr(node, "children", None)
        if children:
            thresholds[tree, at] = node.threshold
            place(children[0], tree, 2 * at + 1)
            place(children[1], tree, 2 * at + 2)

    for tree, root in enumerate(model.trees):
        place(root, tree, 0)
    return thresholds


@njit(cache=True)
def fold(kinds, values, thresholds, learned, reference, counter, warm, out):
    limit = 0.1 * WINDOW
    top = N_TREES * WINDOW * (2 ** (HEIGHT + 1) - 1)
    for i in range(len(kinds)):
        m = kinds[i]
        total = 0.0
        for tree in range(N_TREES):
            node = 0
            power = 1
            scoring = warm[m]
            for _ in range(HEIGHT):
                if scoring:
                    total += reference[m, tree, node] * power
                    scoring = reference[m, tree, node] >= limit
                    power *= 2
                learned[m, tree, node] += 1
                node = 2 * node + (1 if values[i] < thresholds[tree, node] else 2)
            if scoring:
                total += reference[m, tree, node] * power
            learned[m, tree, node] += 1
        out[i] = 1.0 - total / top if warm[m] else 0.0
        counter[m] += 1
        if counter[m] == WINDOW:
            reference[m] = learned[m]
            learned[m] = 0
            warm[m] = True
            counter[m] = 0


@njit(cache=True)
def put_long(out, at, number):
    coded = np.uint64((number << 1) ^ (number >> 63))
    while coded > 0x7F:
        out[at] = (coded & np.uint64(0x7F)) | np.uint64(0x80)
        coded >>= np.uint64(7)
        at += 1
    out[at] = coded
    return at + 1


@njit(cache=True)
def write(names, starts, longs, doubles, out, stops):
    """Records of schema BenchScored; ``longs``: event time, seq, count, ingest time; ``doubles``: value, score."""
    at = 0
    for i in range(len(longs)):
        out[at], out[at + 1], out[at + 2], out[at + 3], out[at + 4] = 0, 0, 0, 0x23, 0x29
        at = put_long(out, at + 5, starts[i + 1] - starts[i])
        for k in range(starts[i], starts[i + 1]):
            out[at] = names[k]
            at += 1
        at = put_long(out, at, longs[i, 0])
        at = put_long(out, at, longs[i, 1])
        for k in range(8):
            out[at + k] = doubles[i, k]
        at = put_long(out, at + 8, longs[i, 2])
        for k in range(8):
            out[at + k] = doubles[i, 8 + k]
        at = put_long(out, at + 8, longs[i, 3])
        stops[i] = at


class Job:
    def __init__(self):
        self.counts = {}
        self.kinds = {}
        self.thresholds = grow()
        self.learned = np.zeros((16, N_TREES, NODES), np.int32)
        self.reference = np.zeros((16, N_TREES, NODES), np.int32)
        self.counter = np.zeros(16, np.int64)
        self.warm = np.zeros(16, np.bool_)

    def run(self, keys, values, times):
        """Return the scored records of a batch."""
        counts, kinds = self.counts, self.kinds
        stream = job.BytesIO(b"".join(values))
        longs, numbers, models, total = [], [], [], 0
        for value, time in zip(values, times, strict=True):
            stream.seek(total + 5)
            total += len(value)
            reading = schemaless_reader(stream, job.READING, None)
            at = reading["event_time"]
            window = (reading["device_id"], at // job.WINDOW_MS)
            counts[window] = count = counts.get(window, 0) + 1
            longs.append((at, reading["seq"], count, time))
            numbers.append(reading["value"])
            kind = reading["sensor_type"]
            models.append(kinds[kind] if kind in kinds else kinds.setdefault(kind, len(kinds)))
        size = len(values)
        doubles = np.empty((size, 2))
        doubles[:, 0] = numbers
        scores = np.empty(size)
        fold(
            np.array(models),
            doubles[:, 0],
            self.thresholds,
            self.learned,
            self.reference,
            self.counter,
            self.warm,
            scores,
        )
        doubles[:, 1] = scores
        starts = np.zeros(size + 1, np.int64)
        np.cumsum(np.fromiter(map(len, keys), np.int64, size), out=starts[1:])
        out = np.empty(starts[-1] + 80 * size, np.uint8)
        stops = np.empty(size, np.int64)
        write(
            np.frombuffer(b"".join(keys), np.uint8),
            starts,
            np.array(longs, np.int64),
            doubles.view(np.uint8),
            out,
            stops,
        )
        whole, first, records = out.tobytes(), 0, []
        for stop in stops.tolist():
            records.append(whole[first:stop])
            first = stop
        return records


def main():
    task = Job()
    consumer = Consumer(job.CONSUMER)
    consumer.subscribe([job.INPUT])
    producer = Producer(job.PRODUCER | job.LARGE_QUEUE)
    produce = producer.produce
    while True:
        messages = [message for message in consumer.consume(5000, 0.01) if message.error() is None]
        if not messages:
            producer.poll(0)
            continue
        keys = [message.key() for message in messages]
        values = [message.value() for message in messages]
        times = [message.timestamp()[1] for message in messages]
        for key, record in zip(keys, task.run(keys, values, times), strict=True):
            try:
                produce(job.OUTPUT, record, key)
            except BufferError:
                producer.flush()
                produce(job.OUTPUT, record, key)
        producer.poll(0)


main()
