"""Latency at steady rates: from the broker's timestamp of a reading to its scored record."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, TopicPartition

from bench import feed, figures
from bench.measure import START_SECONDS, BenchError, Contestant, Ends, Running, broker, make_topics, running
from bench.outputs import Reader
from fleetwatch import kafka

if TYPE_CHECKING:
    from fleetwatch.settings import Settings

START_EVENTS, WARM_SECONDS = 20_000, 2.0
SECONDS, SETTLED = 4.0, 0.2
"""How long each rate lasts, and the share of its records that is left out at the beginning."""
PATIENCE = 8.0
"""Who has not scored all readings of a rate so long after its end does not keep up with it."""
FIXED_RATE = 1000.0
SHARES = (0.1, 0.5, 0.9)


def rates(highest: float | None) -> dict[str, float]:
    """Return the rates (events per second) by name: 1,000, and shares of a contestant's own highest."""
    found = {f"{FIXED_RATE:.0f}/s": FIXED_RATE}
    if highest is not None:
        found |= {f"{share:.0%}": highest * share for share in SHARES}
    return found


def measure(kind: str, contestant: Contestant, devices: int, highest: float | None) -> dict[str, dict[str, Any]]:
    """Return the figures of each rate in milliseconds, one after the other on one broker and one process.

    ``p50`` and ``p99`` go to the timestamp of the scored record, ``arrival_*`` to its arrival at a consumer.

    Raises:
        BenchError: the contestant ended, does not start, or does not keep up with the fixed rate.

    """
    found: dict[str, dict[str, Any]] = {}
    with broker(kind) as settings:
        make_topics(settings, contestant)
        with running(settings, contestant) as subject:
            sent = _start(settings, contestant, subject, devices)
            sent += _at_rate(settings, contestant, devices, sent, FIXED_RATE, WARM_SECONDS)["readings"]
            for name, rate in rates(highest).items():
                found[name] = _at_rate(settings, contestant, devices, sent, rate)
                subject.require_alive()
                if not found[name]["keeps_up"]:
                    if rate == FIXED_RATE:
                        raise BenchError(f"{contestant.name} does not keep up with {rate:.0f} readings a second")
                    break  # what is left of this rate would be measured with the next
                sent += found[name]["readings"]
    return found


def _at_rate(
    settings: Settings, contestant: Contestant, devices: int, sent: int, rate: float, seconds: float = SECONDS
) -> dict[str, Any]:
    count = int(rate * seconds)
    fleet = feed.Fleet(devices, rate, int((time.time() + count / 1e6 - sent / rate) * 1000))
    readings = fleet.readings(sent, count)
    reader = _Reader(settings, contestant.output, every=max(1, int(rate / 4000)))
    feed.produce_paced(settings, readings, rate)
    keeps_up = reader.wait_for(count, PATIENCE)
    stamped = reader.stamped[int(len(reader.stamped) * SETTLED) :]
    arrived = reader.arrived[int(len(reader.arrived) * SETTLED) :]
    if not stamped:
        raise BenchError(f"{contestant.name}: nothing came while latency was measured")
    return {
        "rate": round(rate),
        "readings": count,
        "keeps_up": keeps_up,
        "p50": figures.percentile(stamped, 0.5),
        "p99": figures.percentile(stamped, 0.99),
        "arrival_p50": figures.percentile(arrived, 0.5),
        "arrival_p99": figures.percentile(arrived, 0.99),
    }


def _start(settings: Settings, contestant: Contestant, subject: Running, devices: int) -> int:
    fleet = feed.Fleet(devices, START_EVENTS, int(time.time() * 1000) - 1000)
    feed.Feeder(settings, fleet.readings(0, START_EVENTS), START_EVENTS).fill()
    ends = Ends(settings, contestant.output)
    deadline = time.monotonic() + START_SECONDS
    while ends.total() < START_EVENTS:
        subject.require_alive()
        if time.monotonic() > deadline:
            raise BenchError(f"{contestant.name} does not start:\n{subject.tail()}")
        time.sleep(0.05)
    ends.close()
    return START_EVENTS


class _Reader:
    """Reads the output topic from its end on and notes both latencies of every so many records, as they arrive."""

    def __init__(self, settings: Settings, topic: str, *, every: int) -> None:
        config = kafka.consumer_config(settings, "bench-latency") | {"fetch.wait.max.ms": 5, "log_level": 0}
        self._consumer = Consumer(config)
        parts = []
        for number in kafka.partitions_of(self._consumer, topic):
            high = kafka.watermarks(self._consumer, topic, number)[1]
            parts.append(TopicPartition(topic, number, high))
        self._consumer.assign(parts)
        self._read = Reader()
        self._every = every
        self._stopping = threading.Event()
        self._seen = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.stamped: list[float] = []
        self.arrived: list[float] = []
        self._thread.start()

    def wait_for(self, count: int, seconds: float) -> bool:
        """Read until so many records came, or for so long; say which."""
        deadline = time.monotonic() + seconds
        while self._seen < count and time.monotonic() < deadline:
            time.sleep(0.02)
        self._stopping.set()
        self._thread.join(10)
        return self._seen >= count

    def _run(self) -> None:
        skip = 0
        while not self._stopping.is_set():
            messages: list[Any] = self._consumer.consume(2000, 0.005)
            now = time.time() * 1000
            for message in messages[skip :: self._every]:
                if message.error() is None:
                    ingest = self._read(message.value())["ingest_time"]
                    self.stamped.append(message.timestamp()[1] - ingest)
                    self.arrived.append(round(now - ingest, 1))
            skip = (skip - len(messages)) % self._every
            self._seen += sum(message.error() is None for message in messages)
        self._consumer.close()
