"""A lane: everything that is derived from one partition of one input topic, as a fold over its records.

``process`` takes records in offset order and returns outputs; ``advance`` moves the watermark of an idle partition.
No Kafka, no clock, no randomness in here. Where a batch is cut changes nothing (but which batch model was in
force). ``snapshot`` and ``restore`` carry all that outputs depend on, with the offset that it includes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fleetwatch import columns, row_status
from fleetwatch.avro_check import LAST_MS
from fleetwatch.model_catalogue import FALLBACK
from fleetwatch.records import Reason
from streams import devices
from streams.arrays import grown
from streams.batch import Accepted, Outputs, model_for
from streams.forget import without
from streams.inputs import BY_TOPIC, READINGS
from streams.lane_outputs import add_counts, add_letters, add_refused, add_scored
from streams.lane_rules import LaneRules
from streams.names import Names
from streams.scoring import Scorer, Scores
from streams.shadow import Shadows
from streams.surges import SurgeFold
from streams.tuning import Tunings
from streams.windows import NEVER, Entries, WindowFold, WindowRules

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from fleetwatch.records import ModelComparison
    from streams.batch import ActiveModel, RawBatch
    from streams.rules import Rule

TICKS_A_TTL: Final = 8
"""How often in a ``device_ttl`` silent devices are looked for."""
_EMPTY: Final = np.iinfo(np.int64).min


@dataclass(frozen=True)
class LaneSettings:
    """What a lane needs to know."""

    windows: WindowRules
    rules: tuple[Rule, ...]
    max_skew_ms: int
    warm_up: int
    tunings: Tunings = field(default_factory=Tunings)
    device_ttl_ms: int = 0
    """How long a device may be silent before its state is given up; 0: for ever."""
    trees_by: str = "kernel"
    """Who computes half-space trees: the compiled kernel, or River, which it equals."""


class Lane:
    """State of one partition of one input topic."""

    def __init__(self, topic: str, partition: int, settings: LaneSettings) -> None:
        self.source = BY_TOPIC[topic]
        self.partition = partition
        self.settings = settings
        self.next_offset = 0
        self.names = Names()
        self.recent = np.zeros((0, devices.HORIZON, 2), np.int64)
        self.place = np.zeros(0, np.int64)
        self.windows = WindowFold(settings.windows, len(self.source.scopes))
        self.rules = LaneRules(settings.rules, self.source, partition, settings.windows)
        self.scorer = self._new_scorer() if self.source is READINGS else None
        self.surges = None if self.source is READINGS else self._new_surges()
        self._overrides = settings.tunings.table([])
        self.last_tick = NEVER
        self.shadows: Shadows | None = None
        """Models that are only compared: no output and no snapshot depends on them."""

    def process(self, raw: RawBatch, models: Mapping[str, ActiveModel]) -> Outputs:
        """Fold consecutive records in; what the state already includes is skipped."""
        out = Outputs()
        raw = raw.since(self.next_offset)
        if len(raw) == 0:
            return out
        times = np.clip(raw.times, 0, LAST_MS)  # a producer may have set the broker's time
        raw = replace(raw, records=replace(raw.records, times=times))
        batch = columns.decode_batch(raw.values, raw.keys, self.source.record_type, key_field=self.source.device)
        self._validate(batch, raw)
        chosen = np.flatnonzero(batch.status == row_status.OK)
        slack = self.settings.windows.out_of_orderness_ms
        before, newest = self.windows.watermark_ms, np.maximum.accumulate(batch.numbers("event_time")[chosen])
        marks = np.maximum(newest - slack, before)
        while (at := self._next_tick(marks)) is not None:
            if chosen[at] > 0:  # silent devices are given up between two events, wherever the batch was cut
                out.extend(self.process(raw[: chosen[at]], models))
                out.extend(self.process(raw[chosen[at] :], models))
                return out
            self.last_tick = self._tick(int(marks[0]))
            self._forget(before, (int(raw.times[0]), int(raw.offsets[0])), out)
        self.next_offset = int(raw.offsets[-1]) + 1
        add_refused(out, raw, batch)
        rows, sites, kinds = self.names.rows(batch, chosen, self.source)
        self._reserve()
        times, seqs = batch.numbers("event_time")[chosen], batch.numbers("seq")[chosen]
        repeats = devices.fold_duplicates(rows, times, seqs, self.recent, self.place)
        if repeats.any():
            out.count("duplicates", int(repeats.sum()))
            chosen, rows, sites, kinds, times = (column[~repeats] for column in (chosen, rows, sites, kinds, times))
        if len(chosen) == 0:
            return out
        values = batch.doubles(self.source.value)[chosen]
        keys = self.names.keys(self.source.scopes, rows, sites, kinds)
        folded = self.windows.fold(times, raw.offsets[chosen], values, keys)
        accepted = Accepted(
            raw=raw,
            batch=batch,
            chosen=chosen,
            rows=rows,
            sites=sites,
            kinds=kinds,
            times=times,
            values=values,
            watermark_before=before,
            watermarks=np.maximum(np.maximum.accumulate(times) - slack, before),
            folded=folded,
            scores=self._score(rows, kinds, times, values, models),
            surges=self.surges.fold(folded.final, folded.closed) if self.surges is not None else None,
        )
        out.count(self.source.topic.removeprefix("fleet."), len(chosen))
        out.count("late", int(folded.is_late.sum()))
        self._count(folded.final, is_final=True, out=out)
        if accepted.scores is not None:
            add_scored(out, accepted, accepted.scores, self._active(models))
            self._offer_training(kinds, accepted.scores, models, out)
            if self.shadows is not None:
                self.shadows.fold(self._kind_names(), kinds, accepted.scores, models, int(raw.times[-1]))
        self.rules.fold(self.names, accepted, out)
        return out

    def refuse(self, raw: RawBatch, reason: Reason, detail: str) -> Outputs:
        """Pass over records: dead letters are all that comes of them."""
        out = Outputs()
        self.next_offset = int(raw.offsets[-1]) + 1
        add_letters(out, raw, [(row, reason, detail) for row in range(len(raw))])
        return out

    def advance(self, watermark_ms: int, now_ms: int) -> Outputs:
        """Move the watermark of an idle partition: windows close, silent devices are noticed."""
        out = Outputs()
        previous = self.windows.watermark_ms
        if previous == NEVER or watermark_ms <= previous:
            return out
        final, closed = self.windows.advance(watermark_ms)
        self._count(final, is_final=True, out=out)
        source = (now_ms, self.next_offset - 1)
        surges = self.surges.fold(final, closed) if self.surges is not None else None
        self.rules.advance(self.names, final, closed, surges, watermark_ms, source, out)
        if self._next_tick(np.array([watermark_ms])) is not None:
            self.last_tick = self._tick(watermark_ms)
            self._forget(watermark_ms, source, out)
        return out

    def early(self) -> Outputs:
        """Return the counts of open windows that changed since last time."""
        out = Outputs()
        self._count(self.windows.early(), is_final=False, out=out)
        return out

    def change_models(self, before: Mapping[str, ActiveModel], after: Mapping[str, ActiveModel]) -> None:
        """Prepare for other batch models from the next record on: their scores are calibrated anew.

        A model that was compared here as a shadow brings its calibration along. What this does is part of the next
        snapshot, which must stand before anything is folded in.
        """
        if self.scorer is None:
            return
        for kind, name in enumerate(self._kind_names()):
            old, new = model_for(name, before), model_for(name, after)
            if new is None or (old is not None and old.version == new.version):
                continue
            owner = name if name in after else FALLBACK
            calibration = self.shadows.calibration(owner, new.version) if self.shadows is not None else None
            self.scorer.recalibrate(kind, calibration)

    def watch(
        self,
        shadows: Mapping[str, ActiveModel],
        models: Mapping[str, ActiveModel],
        known: Callable[[str, str, int], ModelComparison | None],
    ) -> None:
        """Have shadow models score beside the models in force; ``known`` says how one has compared so far."""
        if self.scorer is None or (not shadows and self.shadows is None):
            return
        self.shadows = self.shadows or Shadows(self.partition)
        self.shadows.watch(shadows, models, known)

    def compared(self) -> list[ModelComparison]:
        """Return the comparisons of shadow models that changed since last time."""
        return [] if self.shadows is None else self.shadows.changed()

    # --- steps ---

    def _new_scorer(self) -> Scorer:
        tunings = self.settings.tunings
        return Scorer(self.settings.warm_up, tunings.detectors, self.settings.trees_by, tunings.river_detectors())

    def _new_surges(self) -> SurgeFold:
        return SurgeFold(self.settings.windows, self.settings.warm_up, self.settings.tunings)

    def _next_tick(self, watermarks: NDArray[np.int64]) -> int | None:
        """Return the first row whose watermark passes a time at which silent devices are looked for."""
        if not self.settings.device_ttl_ms or len(watermarks) == 0:
            return None
        if self.last_tick == NEVER:
            self.last_tick = self._tick(int(watermarks[0]))
        if self._tick(int(watermarks[-1])) <= self.last_tick:
            return None
        return int((watermarks // self._tick_ms > self.last_tick).argmax())

    @property
    def _tick_ms(self) -> int:
        return max(self.settings.device_ttl_ms // TICKS_A_TTL, 1)

    def _tick(self, watermark_ms: int) -> int:
        return watermark_ms // self._tick_ms

    def _forget(self, watermark_ms: int, source: tuple[int, int], out: Outputs) -> None:
        """Give up devices that have been silent for too long, as if they had never been; what they left open ends.

        The watermark is one that the rules have seen: who is given up has been found silent before. ``source`` is the
        time (ms) and the offset that their alerts name.
        """
        ttl, known = self.settings.device_ttl_ms, self.names.devices.count
        is_silent = self.rules.silent_for(self.names, ttl, watermark_ms) & ~self.windows.is_open(0, known)
        if not is_silent.any():
            return
        self.rules.give_up(self.names, is_silent, ttl, source, out)
        snapshot = without(self.snapshot(), np.flatnonzero(~is_silent), self.source.scopes)
        self._take_over(snapshot)
        out.count("devices_forgotten", int(is_silent.sum()))

    def _validate(self, batch: columns.Batch, raw: RawBatch) -> None:
        for name in self.source.finite:
            number = batch.doubles(name)
            batch.refuse(np.isnan(number), Reason.NOT_A_NUMBER)
            batch.refuse(np.isinf(number), Reason.INFINITE)
        batch.refuse(batch.numbers("event_time") > raw.times + self.settings.max_skew_ms, Reason.TOO_FAR_AHEAD)

    def _reserve(self) -> None:
        count = self.names.devices.count
        self.recent = grown(self.recent, count, _EMPTY)
        self.place = grown(self.place, count)

    def _score(
        self,
        rows: NDArray[np.int64],
        kinds: NDArray[np.int64],
        times: NDArray[np.int64],
        values: NDArray[np.float64],
        models: Mapping[str, ActiveModel],
    ) -> Scores | None:
        if self.scorer is None:
            return None
        if len(self._overrides) < self.names.kinds.count:
            self._overrides = self.settings.tunings.table(self._kind_names())
        channels = self.names.pairs.pair_rows(rows, kinds)
        return self.scorer.fold(rows, channels, kinds, times, values, self._active(models), self._overrides)

    def _active(self, models: Mapping[str, ActiveModel]) -> list[ActiveModel | None]:
        return [model_for(name, models) for name in self._kind_names()]

    def _offer_training(
        self, kinds: NDArray[np.int64], scores: Scores, models: Mapping[str, ActiveModel], out: Outputs
    ) -> None:
        """Offer settled readings of types without a model of their own, whether the fallback scores them or not."""
        names = self._kind_names()
        lacks_own = np.array([name not in models for name in names], np.bool_)
        without = scores.is_settled & lacks_own[kinds]
        for number in np.unique(kinds[without]).tolist():
            out.training[names[number]] = scores.x[without & (kinds == number)]

    def _kind_names(self) -> list[str]:
        kinds = self.names.kinds
        return [kinds.name(number).decode() for number in range(kinds.count)]

    def _count(self, entries: Entries, *, is_final: bool, out: Outputs) -> None:
        rules, partition = self.settings.windows, self.partition
        add_counts(
            out, entries, names=self.names, source=self.source, partition=partition, rules=rules, is_final=is_final
        )

    # --- state ---

    def copy(self) -> Lane:
        """Return a lane of the same state that shares nothing with this one, but the shadow models."""
        lane = Lane.restore(self.source.topic, self.partition, self.settings, self.snapshot())
        lane.shadows = self.shadows
        return lane

    def snapshot(self) -> dict[str, Any]:
        """Return all that outputs depend on, as nested dicts of arrays."""
        state: dict[str, Any] = {
            "next_offset": np.array([self.next_offset]),
            "names": self.names.snapshot(),
            "recent": self.recent,
            "place": self.place,
            "windows": self.windows.snapshot(),
            "rules": self.rules.snapshot(),
            "last_tick": np.array([self.last_tick]),
        }
        if self.scorer is not None:
            state["scorer"] = self.scorer.snapshot()
        if self.surges is not None:
            state["surges"] = self.surges.snapshot()
        return state

    @classmethod
    def restore(cls, topic: str, partition: int, settings: LaneSettings, state: dict[str, Any]) -> Lane:
        """Return a lane that goes on where the snapshot was taken.

        Raises:
            ValueError: the snapshot does not fit the settings.

        """
        lane = cls(topic, partition, settings)
        lane.next_offset, lane.last_tick = int(state["next_offset"][0]), int(state["last_tick"][0])
        lane._take_over(state)
        return lane

    def _take_over(self, state: dict[str, Any]) -> None:
        self.names = Names.restore(state["names"])
        self.recent, self.place = state["recent"].copy(), state["place"].copy()
        self.windows = WindowFold.restore(self.settings.windows, state["windows"])
        self.rules = LaneRules(self.settings.rules, self.source, self.partition, self.settings.windows)
        self.rules.restore(state["rules"])
        if self.surges is not None:
            self.surges = self._new_surges()
            if "surges" in state:  # not in a snapshot of before there were any: they begin anew
                self.surges.restore(state["surges"])
        if self.scorer is not None:
            settings, tunings = self.settings, self.settings.tunings
            self.scorer = Scorer.restore(
                settings.warm_up, state["scorer"], tunings.detectors, settings.trees_by, tunings.river_detectors()
            )
