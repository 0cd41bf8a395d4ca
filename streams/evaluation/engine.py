"""The production engine without Kafka: records go through the same lanes as in the worker, encoded as on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fleetwatch import columns, topics
from fleetwatch.record_batch import Records
from fleetwatch.records import ScoredReading, SensorReading, Verdict
from streams.batch import ActiveModel, Outputs, RawBatch
from streams.detectors import isolation_forest
from streams.lane import Lane, LaneSettings
from streams.lane_outputs import symbols
from streams.training import TrainingSamples
from streams.tuning import Tuning, Tunings
from streams.windows import WindowRules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fleetwatch.byte_column import ByteColumn

WARM_UP: Final = 40
_ANOMALY: Final = symbols("scored_reading", "verdict")[Verdict.ANOMALY]


class Engine:
    """One lane a topic, and first trainings as the worker does them, at the end of the batch that fills a sample.

    ``training_sample`` is how many settled readings of a sensor type its first batch model is trained on; 0: none is.
    """

    def __init__(self, settings: LaneSettings, *, training_sample: int = 0) -> None:
        self._settings = settings
        self._lanes: dict[str, Lane] = {}
        self._samples = TrainingSamples(training_sample) if training_sample else None
        self.models: dict[str, ActiveModel] = {}

    def feed(
        self,
        topic: str,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        times_ms: Sequence[int] | NDArray[np.int64],
    ) -> Outputs:
        """Fold the next records of a topic in; ``times_ms`` are the broker's."""
        lane = self._lanes.get(topic)
        if lane is None:
            lane = self._lanes[topic] = Lane(topic, 0, self._settings)
        first = lane.next_offset
        records = Records.of(range(first, first + len(values)), times_ms, keys, values)
        out = lane.process(RawBatch(topic, 0, records), self.models)
        for sensor_type, rows in out.training.items():
            sample = self._samples.add(sensor_type, rows) if self._samples else None
            if sample is not None:
                self.models[sensor_type] = ActiveModel(
                    "evaluation", isolation_forest.flatten(isolation_forest.train(sample))
                )
        return out

    def advance(self, until_ms: int) -> Outputs:
        """Let the clock move the watermark of every lane to a time after the last record."""
        out = Outputs()
        for lane in self._lanes.values():
            out.extend(lane.advance(until_ms, until_ms))
        return out


def benchmark_engine(tuning: Tuning, voters: Sequence[str], calibration: int) -> Engine:
    """Return an engine without rules; a batch model, where one votes, is trained on the calibration's readings."""
    settings = LaneSettings(
        windows=WindowRules(size_ms=10_000, grace_ms=5_000, out_of_orderness_ms=2_000),
        rules=(),
        max_skew_ms=300_000,
        warm_up=WARM_UP,
        tunings=Tunings(detectors=tuple(voters), default=tuning),
    )
    return Engine(settings, training_sample=max(calibration - WARM_UP, 0) if "isolation-forest" in voters else 0)


def alarms_of(
    engine: Engine, device: str, values: Sequence[bytes | None], times_ms: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Fold the next readings of a device in; return the ``seq`` of those with the verdict ANOMALY."""
    keys = [device.encode()] * len(values)
    sent = engine.feed(topics.READINGS, keys, values, times_ms).messages
    scored = [value for topic, _, value in sent if topic == topics.SCORED]
    batch = columns.decode_batch(scored, keys[: len(scored)], ScoredReading)
    is_alarm = batch.numbers("verdict") == _ANOMALY
    return batch.numbers("seq")[np.flatnonzero(is_alarm)]


def encode_readings(
    device: str, sensor_types: Sequence[str], times_ms: NDArray[np.int64], values: NDArray[np.float64]
) -> ByteColumn:
    """Return readings of one device as on the wire; ``values`` (rows, sensor types), ``seq`` counts readings.

    ``times_ms`` (rows): all sensor types of a row have the same event time.
    """
    rows, kinds = values.shape
    buffer, starts, stops = columns.join_bytes([text.encode() for text in (device, *sensor_types)])
    batch = columns.new_batch(SensorReading, rows * kinds, buffer)
    slots = batch.layout.slots
    batch.ints[slots["device_id"]], batch.ints[slots["device_id"] + 1] = starts[0], stops[0] - starts[0]
    batch.ints[slots["sensor_type"]] = np.tile(starts[1:], rows)
    batch.ints[slots["sensor_type"] + 1] = np.tile((stops - starts)[1:], rows)
    batch.ints[slots["event_time"]] = np.repeat(times_ms, kinds)
    batch.ints[slots["seq"]] = np.arange(rows * kinds)
    batch.floats[slots["value"]] = values.reshape(-1)
    return columns.encode_batch(batch, SensorReading)
