"""The generator of the golden recordings: seeded, so that rewriting changes nothing unless this file does.

Values are multiples of 1/16, which keeps the files small. Each function gives events as (topic, partition, key, value,
broker time in ms), in the order in which they arrive.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetwatch import avro, topics
from fleetwatch.recording.rows import Messages
from fleetwatch.recording.writer import RecordingWriter
from fleetwatch.records import Box, CameraDetection, FaultKind, GroundTruth, SensorReading, from_millis
from tests.unit.streams import lanes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Event = tuple[str, int, bytes | None, bytes | None, int]

START_MS = 1_780_000_000_000
PARTITIONS = 2
BLOCK = 2000
DELAY_MS = 40
TYPES = {"t": ("temperature", "Cel", 60.0), "p": ("power", "kW", 12.0)}
SITES = ("north", "cellar", "roof")


class Fleet:
    """Devices by number: half of them temperature, half power, spread over the sites; each counts its readings."""

    def __init__(self, seed: int, count: int) -> None:
        self.chance = np.random.default_rng(seed)
        self.count = count
        self._seqs = [0] * count

    def name(self, number: int) -> str:
        return f"{'tp'[number % 2]}-{number:02}"

    def heat(self, number: int, step: int) -> float | None:
        """The value of the first device in six of every 250 steps: something to be noticed beside the rest."""
        return 95.0 if number == 0 and step % 250 in range(200, 206) else None

    def reading(self, number: int, at_ms: int, *, value: float | None = None, **changes: Any) -> SensorReading:
        name = self.name(number)
        kind, unit, level = TYPES[name[0]]
        self._seqs[number] += 1
        if value is None:
            swing = 4 * np.sin((at_ms - START_MS) / 600_000 + number)
            value = level + swing + self.chance.normal(0, 0.5)
        fields: dict[str, Any] = {
            "device_id": name,
            "sensor_type": kind,
            "site": SITES[number % 3],
            "event_time": from_millis(at_ms),
            "seq": self._seqs[number],
            "value": round(float(value) * 16) / 16,
            "unit": unit,
        }
        return SensorReading(**(fields | changes))


def sent(reading: SensorReading | CameraDetection, at_ms: int) -> Event:
    """An event as it arrives, its partition made from the key as librdkafka does."""
    is_reading = isinstance(reading, SensorReading)
    key = (reading.device_id if is_reading else reading.camera_id).encode()
    topic = topics.READINGS if is_reading else topics.DETECTIONS
    return topic, zlib.crc32(key) % PARTITIONS, key, avro.encode(reading), at_ms + DELAY_MS


def fault(device: str, kind: FaultKind, start_ms: int, end_ms: int) -> Event:
    truth = GroundTruth(
        fault_id=f"{device}-{start_ms}",
        device_id=device,
        kind=kind,
        started_at=from_millis(start_ms),
        ended_at=from_millis(end_ms),
        magnitude=1.0,
    )
    key = device.encode()
    return topics.TRUTH, zlib.crc32(key) % PARTITIONS, key, avro.encode(truth), start_ms


def quiet_day() -> Iterator[Event]:
    """Sixteen devices, three readings a minute, four hours: nothing happens."""
    fleet = Fleet(1, 16)
    for step in range(720):
        for number in range(fleet.count):
            at = START_MS + step * 20_000 + number * 1_200
            yield sent(fleet.reading(number, at), at)


def storm() -> Iterator[Event]:
    """Five minutes of calm, then spikes and heat everywhere, a device that is stuck, and a crowd before a camera."""
    fleet = Fleet(2, 20)
    for device in range(0, 20, 4):
        yield fault(fleet.name(device), FaultKind.SPIKE, START_MS + 300_000, START_MS + 420_000)
    for step in range(550):
        at = START_MS + step * 1000
        raging = 300 <= step < 420
        for number in range(fleet.count):
            value = None
            if raging and number % 4 == 0 and (step < 360 or fleet.chance.random() < 0.03):
                value = 95.0 + fleet.chance.random() * 20
            if raging and number == 5:
                value = 12.0
            yield sent(fleet.reading(number, at + number * 10, value=value), at + number * 10)
        for seq in range(int(fleet.chance.integers(3, 7)) if raging else int(step % 5 == 0)):
            box = Box(x=0.25, y=0.25, width=0.125, height=0.5)
            at_seq = at + 300 + seq
            yield sent(
                CameraDetection(
                    camera_id=f"gate-{step % 2}",
                    site="north",
                    event_time=from_millis(at_seq),
                    seq=step * 10 + seq,
                    label="person",
                    confidence=0.75,
                    box=box,
                ),
                at_seq,
            )


def outage() -> Iterator[Event]:
    """Power fails in the cellar, then all of partition 0 is silent for ten minutes; another device never comes back."""
    fleet = Fleet(3, 12)
    gone = next(n for n in range(fleet.count) if zlib.crc32(fleet.name(n).encode()) % PARTITIONS == 1)
    yield fault(fleet.name(gone), FaultKind.DROPOUT, START_MS + 900_000, START_MS + 2_000_000)
    for step in range(1100):
        at = START_MS + step * 2000
        for number in range(fleet.count):
            fails = number % 6 == 1 and 560 <= step * 2 < 600
            event = sent(fleet.reading(number, at + number * 100, value=0.5 if fails else None), at + number * 100)
            is_cut = event[1] == 0 and 600 <= step * 2 < 1200
            if not is_cut and not (number == gone and step * 2 >= 900):
                yield event


def clock_jump() -> Iterator[Event]:
    """One clock jumps an hour ahead (refused), one 120 s ahead (the others become late), one an hour back."""
    fleet = Fleet(4, 16)
    jumps = {1: 3_600_000, 2: 120_000, 3: -3_600_000}
    for step in range(650):
        at = START_MS + step * 2000
        for number in range(fleet.count):
            mine = at + number * 50
            off = jumps.get(number, 0) if 200 <= step < 230 + 50 * (number == 3) else 0
            yield sent(fleet.reading(number, mine + off, value=fleet.heat(number, step)), mine)


def late_data() -> Iterator[Event]:
    """Out of order within the allowance, some late, some repeated, one device that delivers every minute at once."""
    fleet = Fleet(5, 12)
    held: list[SensorReading] = []
    for step in range(900):
        at = START_MS + step * 1000
        for number in range(fleet.count):
            mine = at + number * 70
            chance = fleet.chance.random()
            behind = int(fleet.chance.integers(0, 1900)) if chance < 0.3 else 0
            behind = int(fleet.chance.integers(8_000, 60_000)) if chance < 0.01 else behind
            reading = fleet.reading(number, mine - behind, value=fleet.heat(number, step))
            if number == 7:
                held.append(reading)
                continue
            yield sent(reading, mine)
            if chance > 0.97:
                yield sent(reading, mine + 1)
        if step % 60 == 59:
            yield from (sent(reading, at + 900) for reading in held)
            held.clear()


def schema_mix() -> Iterator[Event]:
    """Readings of today's version among those of one that is not known here, and records of another topic."""
    fleet = Fleet(6, 10)
    for step in range(1000):
        at = START_MS + step * 1000
        for number in range(fleet.count):
            mine = at + number * 60
            topic, partition, key, value, time = sent(fleet.reading(number, mine, value=fleet.heat(number, step)), mine)
            yield topic, partition, key, value, time
            assert value is not None
            if (step + number) % 25 == 0:
                yield topic, partition, key, b"\x00" + struct.pack(">I", 999_999) + value[5:], time
            if (step + number) % 100 == 0:
                yield topic, partition, key, avro.encode(lanes.detection()), time


def poison() -> Iterator[Event]:
    """Everything that can be refused, again and again, among good readings."""
    fleet = Fleet(7, 10)
    bad = [made for _, (made, _) in sorted(lanes.poison().items()) if len(made[1] or b"") < 70_000]
    for step in range(1000):
        at = START_MS + step * 1000
        for number in range(fleet.count):
            mine = at + number * 60
            yield sent(fleet.reading(number, mine, value=fleet.heat(number, step)), mine)
            if (step + number) % 20 == 0:
                key, value, _ = bad[(step // 2) % len(bad)]
                yield topics.READINGS, (key or b"x")[0] % PARTITIONS, key, value, mine


RECORDINGS: dict[str, Callable[[], Iterator[Event]]] = {
    "quiet_day": quiet_day,
    "storm": storm,
    "outage": outage,
    "clock_jump": clock_jump,
    "late_data": late_data,
    "schema_mix": schema_mix,
    "poison": poison,
}


def write(name: str, folder: Path) -> None:
    """Write a recording; its recorder listened for a minute more, in an outage for five."""
    waiting: dict[str, list[Event]] = {topic: [] for topic in (topics.READINGS, topics.DETECTIONS, topics.TRUTH)}
    offsets: dict[tuple[str, int], int] = {}
    newest = 0
    with RecordingWriter(folder, dict.fromkeys(waiting, PARTITIONS), level=9) as writer:

        def flush(topic: str) -> None:
            events = waiting[topic]
            numbers = []
            for _, partition, *_ in events:
                numbers.append(offsets.get((topic, partition), 0))
                offsets[topic, partition] = numbers[-1] + 1
            writer.append(
                topic,
                Messages(
                    np.array([event[1] for event in events], np.int64),
                    np.array(numbers, np.int64),
                    np.array([event[4] for event in events], np.int64),
                    [event[2] for event in events],
                    [event[3] for event in events],
                ),
            )
            events.clear()

        for event in RECORDINGS[name]():
            newest = max(newest, event[4])
            waiting[event[0]].append(event)
            if len(waiting[event[0]]) == BLOCK:
                flush(event[0])
        for topic in waiting:
            flush(topic)
        writer.close(newest + (300_000 if name == "outage" else 60_000))
