"""The feature fold against straightforward Python after every step, and for values as bad as they come."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import features

MODEST = settings(max_examples=60, deadline=None)
LONG, SHORT, REPEAT = features._LONG_GAIN, features._SHORT_GAIN, features._REPEAT_GAIN


@dataclass
class Running:
    """An exponentially weighted mean and variance."""

    mean: float = 0.0
    variance: float = 0.0
    count: int = 0
    fixed_gain: float | None = None

    def deviations(self, value: float) -> float:
        spread = math.sqrt(self.variance) + 1e-9 * abs(self.mean) + 1e-12
        return min(max((value - self.mean) / spread, -1e6), 1e6)

    def learn(self, value: float) -> None:
        gain = self.fixed_gain or max(1 / (self.count + 1), LONG)
        away = value - self.mean
        self.mean += gain * away
        self.variance = (1 - gain) * (self.variance + gain * away * away)
        self.count += 1


@dataclass
class Reference:
    """One device, as the module's table says."""

    seen: int = 0
    value: Running = field(default_factory=Running)
    smooth: Running = field(default_factory=Running)
    step: Running = field(default_factory=Running)
    rough: Running = field(default_factory=Running)
    size: Running = field(default_factory=Running)
    repeat: Running = field(default_factory=lambda: Running(fixed_gain=REPEAT))
    in_a_row: int = 0
    last: float = 0.0
    short_mean: float = 0.0
    short_step: float = 0.0

    def fold(self, x: float) -> tuple[float, ...]:
        x = min(max(x, -1e150), 1e150)
        gain = max(1 / (self.seen + 1), SHORT)
        short = self.short_mean + gain * (x - self.short_mean)
        change, step = abs(x - self.last), 0.0
        if self.seen > 1 and self.size.mean > 0:
            step = math.log(change / (self.size.mean + 1e-12) + 0.05)
        rough = self.short_step + gain * (step - self.short_step)
        self.in_a_row = self.in_a_row + 1 if self.seen > 0 and x == self.last else 0
        out = (0.0,) * 5
        if self.seen >= 20:
            out = (
                self.value.deviations(x),
                self.smooth.deviations(short),
                self.step.deviations(step),
                self.rough.deviations(rough),
                min((self.in_a_row - self.repeat.mean) / (math.sqrt(self.repeat.variance) + 1), 1e6),
            )
        self.value.learn(x)
        self.smooth.learn(short)
        self.repeat.learn(self.in_a_row)
        if self.seen > 0:
            self.size.learn(change)
        if self.seen > 1:
            self.step.learn(step)
            self.rough.learn(rough)
            self.short_step = rough
        self.short_mean, self.last = short, x
        self.seen += 1
        return out


@MODEST
@given(
    st.integers(0, 2**32),
    st.integers(30, 1200),
    st.sampled_from([0.001, 1.0, 1e6, 2e149]),
    st.sets(st.integers(0, 1200)),
    st.integers(0, 90),
)
def test_equal_to_the_reference_after_every_step(
    seed: int, count: int, scale: float, spikes: set[int], stuck: int
) -> None:
    """Three interleaved devices, well past the longest memory."""
    random = np.random.default_rng(seed)
    values = random.normal(5, 1, count) * scale
    values[[at for at in spikes if at < count]] *= 50
    values[count // 2 : count // 2 + stuck] = values[0]
    rows = random.integers(0, 3, count)
    out, before = features.fold_features(rows, values, np.zeros(3, np.int64), np.zeros((3, features.WIDTH)))
    devices = [Reference(), Reference(), Reference()]
    for k, (row, value) in enumerate(zip(rows.tolist(), values.tolist(), strict=True)):
        assert before[k] == devices[row].seen
        assert np.allclose(out[k], devices[row].fold(value), rtol=1e-9, atol=1e-9)


HARD = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1e308, -1e308, 1.7976931348623157e308, 5e-324, -5e-324, 2.2e-308, 1e-150, 1e150]),
)


@MODEST
@given(st.lists(st.tuples(HARD, st.integers(1, 40)), min_size=1, max_size=12))
def test_finite_for_any_finite_input(runs: list[tuple[float, int]]) -> None:
    """Runs of constants, jumps over the whole range of floats, denormals."""
    values = np.repeat([value for value, _ in runs], [length for _, length in runs])
    stats = np.zeros((1, features.WIDTH))
    out, _ = features.fold_features(np.zeros(len(values), np.int64), values, np.zeros(1, np.int64), stats)
    assert np.isfinite(out).all()
    assert np.isfinite(stats).all()
    squashed = features.squash(out)
    assert (squashed >= 0).all()
    assert (squashed <= 1).all()


@MODEST
@given(st.integers(0, 2**32), st.sets(st.integers(1, 99)))
def test_cutting_a_batch_changes_nothing(seed: int, cuts: set[int]) -> None:
    random = np.random.default_rng(seed)
    values, rows = random.normal(0, 1, 100), random.integers(0, 2, 100)
    whole, _ = features.fold_features(rows, values, np.zeros(2, np.int64), np.zeros((2, features.WIDTH)))
    seen, stats = np.zeros(2, np.int64), np.zeros((2, features.WIDTH))
    marks = [0, *sorted(cuts), 100]
    parts = [
        features.fold_features(rows[start:stop], values[start:stop], seen, stats)[0]
        for start, stop in itertools.pairwise(marks)
    ]
    assert np.array_equal(np.concatenate(parts), whole)


@MODEST
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_squash_never_turns_the_order_round(values: list[float]) -> None:
    ordered = np.sort(np.array(values))
    squashed = features.squash(ordered)
    assert (np.diff(squashed) >= 0).all()
    assert ((squashed > 0) & (squashed < 1)).all()
