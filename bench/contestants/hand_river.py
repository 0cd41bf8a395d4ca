"""A hand-written loop: confluent-kafka, fastavro, a dict of counts, River. No state survives it."""

import job
from confluent_kafka import Consumer, Producer


def main():
    consumer = Consumer(job.CONSUMER)
    consumer.subscribe([job.INPUT])
    producer = Producer(job.PRODUCER | job.LARGE_QUEUE)
    produce = producer.produce
    counts = {}
    trees = job.Trees()
    while True:
        for message in consumer.consume(5000, 0.01):
            if message.error():
                continue
            reading = job.decode(message.value())
            device = reading["device_id"]
            window = (device, reading["event_time"] // job.WINDOW_MS)
            counts[window] = count = counts.get(window, 0) + 1
            scored = job.encode(reading, count, trees.score(reading), message.timestamp()[1])
            try:
                produce(job.OUTPUT, scored, message.key())
            except BufferError:
                producer.flush()
                produce(job.OUTPUT, scored, message.key())
        producer.poll(0)


main()
