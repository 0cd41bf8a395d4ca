"""Unusual counts: how many events each series has in a window, judged by its own past. State for one partition.

A series is a camera, or one label of one camera. From its first event on each window is a reading of it, also one in
which nothing was seen. What the detectors look at is 2 sqrt(count + 3/8), whose noise is nearly that of a normal
distribution with deviation 1 where events come by chance (Anscombe 1948); what they say is taken back into counts.

- The adaptive detector has a profile for weekdays and one for weekends (96 half hours, UTC).
- The deviation detector votes on single windows only: its level lags behind a day's rhythm, and nobody there again and
  again is no fault.
- The usual range is that of the windows just before and that of the time of day together; a count within it is no
  surge, whatever the detectors say.
- Bars, cool-down and the like are those of a device that reports once a window (``streams/tuning.py``), with the bars
  of fast ones, short means over SMOOTHING windows, ready after READY_AFTER, no record rule. The sensor
  type "camera" of a detection file changes them.
- A surge lasts while counts stay beyond the range that was usual when it began; that limit follows what is usual now by
  1/64 a window, so that a busier place is no surge for ever.

A window without any event of the whole partition counts as empty for every series, up to LEAP of them in a row; a
longer pause is none of theirs: the window before is forgotten, that is all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import njit

from fleetwatch.records import Scope
from streams import tuning
from streams.alarms import AlarmFold
from streams.arrays import grown
from streams.detectors import adaptive, deviation
from streams.detectors.adaptive import AdaptiveFold
from streams.detectors.deviation import DeviationFold
from streams.inputs import CAMERA_TYPE, DETECTIONS
from streams.tuning import DETECTORS, SUDDEN, THRESHOLD, PlanFold
from streams.windows import COUNT, NEVER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streams.tuning import Tunings
    from streams.windows import Entries, WindowRules

WEEK_SLOTS: Final = 2 * adaptive.SLOTS
SMOOTHING: Final = 3.0
READY_AFTER: Final = 30.0
"""Windows after which a series is judged."""
NO_RECORDS: Final = 1e9
"""In ranges: one more than ever seen is no news where one or two are seen."""
LEAP: Final = 1000
USUAL: Final = 3.0
"""The usual range is so many deviations to either side of what is expected."""
CUT: Final = 6.0
"""The profile learns no more than so many deviations at once: one crowd is no new usual."""
CHANCE: Final = 1.0
"""The deviation that chance alone gives: there is no smaller one."""
_OFFSET: Final = 0.375
_FOLLOW: Final = 1.0 / 64.0
_CAMERAS, _LABELS = (DETECTIONS.scopes.index(scope) for scope in (Scope.DEVICE, Scope.DEVICE_LABEL))
_PARTS: Final = ("plans", "profile", "noise", "alarms")


def steadied(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return counts on a scale on which their noise does not depend on their mean."""
    scaled: NDArray[np.float64] = 2.0 * np.sqrt(counts + _OFFSET)
    return scaled


def counts_of(scaled: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what ``steadied`` was given; 0 for what lies below its least."""
    counts: NDArray[np.float64] = np.maximum(np.maximum(scaled, 0.0) ** 2 / 4.0 - _OFFSET, 0.0)
    return counts


@njit(cache=True, nogil=True)
def _hold(rows, is_alarm, counts, low, high, held, is_above, is_below):
    """Say which counts are beyond what is usual, or was when the surge (or lull) began.

    ``low`` and ``high`` become what was compared with.
    """
    for i in range(rows.shape[0]):
        limits, count = held[rows[i]], counts[i]
        for k in range(2):
            bounds = low if k == 0 else high
            if np.isnan(limits[k]) and is_alarm[i]:
                limits[k] = bounds[i]
            is_beyond = count < limits[k] if k == 0 else count > limits[k]
            if k == 0:
                is_below[i] = is_beyond
            else:
                is_above[i] = is_beyond
            if not is_beyond:
                limits[k] = np.nan
            else:
                now = bounds[i]
                bounds[i] = limits[k]
                limits[k] += _FOLLOW * (now - limits[k])


@dataclass(frozen=True)
class Surges:
    """Judged windows, one row a series and window, in the order in which they closed; within a window by series.

    ``row`` numbers the series; ``at`` is the batch row before which the window closed (-1: not in a batch), ``ended``
    its end (ms). ``is_above`` and ``is_below`` say that there is a surge or a lull, ``low`` to ``high`` is the usual
    range. ``excess`` is how far the evidence is beyond the bar (powers of ten, NaN while too little is known),
    ``rarity`` how rare this is (powers of ten) and ``feature`` what of it (a number of FEATURES).
    """

    row: NDArray[np.int64]
    at: NDArray[np.int64]
    ended: NDArray[np.int64]
    count: NDArray[np.int64]
    is_above: NDArray[np.bool_]
    is_below: NDArray[np.bool_]
    excess: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    rarity: NDArray[np.float64]
    feature: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)


FEATURES: Final = (
    *(f"{name}, %s by {DETECTORS[0]}" for name in adaptive.NAMES),
    *(f"{name}, %s by {DETECTORS[1]}" for name in deviation.NAMES),
)
"""What stands out and who says so; %s is how rare it is."""


class SeriesFold:
    """The state of the series of one scope of windows, by their keys."""

    def __init__(self, windows: WindowRules, warm_up: int, overrides: NDArray[np.float64]) -> None:
        self._windows, self._warm_up, self._overrides = windows, warm_up, overrides
        self.known = np.zeros(0, np.bool_)
        self.held = np.zeros((0, 2), np.float64)
        self.last = NEVER
        self.plans, self.noise, self.alarms = PlanFold(), DeviationFold(), AlarmFold()
        self.profile = AdaptiveFold(WEEK_SLOTS)

    def fold(self, final: Entries, closed: NDArray[np.int64], scope: int) -> Surges:
        """Judge the windows that closed, then learn them, in order; see ``windows.Folded`` for the arguments."""
        parts = [self._rows_of(final, scope, at, window) for at, window in closed.tolist()]
        parts = [part for part in parts if part.shape[1]]
        joined = np.concatenate(parts, axis=1) if parts else np.zeros((5, 0), np.int64)
        row, at, ended, count, is_after_gap = joined
        values, gaps = steadied(count), is_after_gap.astype(np.bool_)
        intervals = np.full(len(row), self._windows.step_ms / 1000)
        plans = self.plans.fold(row, np.zeros(len(row), np.int64), intervals, self._warm_up, self._overrides)
        deviations = self.noise.fold(row, values, gaps)
        reach = CUT * np.maximum(deviations.spread, CHANCE)
        tamed = np.clip(values, deviations.centre - reach, deviations.centre + reach)
        unusual = self.profile.fold(row, ended - 1, tamed, gaps, plans)
        sudden = np.where(deviations.which == deviation.VALUE, deviations.evidence - plans[:, SUDDEN], -np.inf)
        excess = np.stack([unusual.score - plans[:, THRESHOLD], sudden], axis=1)
        excess[np.isnan(excess)] = -np.inf
        winner = excess.argmax(axis=1)
        alarms = self.alarms.fold(row, values, excess.max(axis=1, initial=-np.inf), plans)
        by_noise = winner == 1
        centres = np.stack([deviations.centre, unusual.centre])
        away = USUAL * np.maximum(np.stack([deviations.spread, unusual.spread]), CHANCE)
        low, high = counts_of((centres - away).min(axis=0)), counts_of((centres + away).max(axis=0))
        self.held = grown(self.held, int(row.max(initial=-1)) + 1, np.nan)
        is_above, is_below = np.empty(len(row), np.bool_), np.empty(len(row), np.bool_)
        _hold(row, alarms.is_alarm, count, low, high, self.held, is_above, is_below)
        return Surges(
            row=row,
            at=at,
            ended=ended,
            count=count,
            is_above=is_above,
            is_below=is_below,
            excess=alarms.raised,
            low=low,
            high=high,
            rarity=np.where(by_noise, deviations.evidence, unusual.rarity),
            feature=np.where(by_noise, deviations.which + len(adaptive.NAMES), unusual.which),
        )

    def _rows_of(self, final: Entries, scope: int, at: int, window: int) -> NDArray[np.int64]:
        """Return the columns (row, at, ended, count, after a gap) of a window and of the empty ones before it."""
        skipped = window - self.last - 1 if self.last != NEVER else 0
        is_gap = skipped > LEAP
        empty = 0 if is_gap else max(skipped, 0)
        self.last = window
        before = np.flatnonzero(self.known)
        mine = (final.window == window) & (final.scope == scope) & (final.ints[:, COUNT] > 0)
        keys = final.key[mine]
        self.known = grown(self.known, int(keys.max(initial=-1)) + 1)
        self.known[keys] = True
        rows = np.flatnonzero(self.known)
        counts = np.zeros(len(self.known), np.int64)
        counts[keys] = final.ints[mine, COUNT]
        windows = np.repeat(np.arange(window - empty, window), len(before))
        row = np.concatenate([np.tile(before, empty), rows])
        step, size = self._windows.step_ms, self._windows.size_ms
        return np.stack(
            [
                row,
                np.full(len(row), at),
                np.concatenate([windows, np.full(len(rows), window)]) * step + size,
                np.concatenate([np.zeros(len(windows), np.int64), counts[rows]]),
                np.full(len(row), int(is_gap)),
            ]
        )

    def snapshot(self) -> dict[str, Any]:
        """Return what ``restore`` needs."""
        parts: dict[str, Any] = {part: getattr(self, part).snapshot() for part in _PARTS}
        return parts | {"known": self.known, "held": self.held}

    def restore(self, state: dict[str, Any], last: int) -> None:
        """Go on where the snapshot was taken."""
        self.last, self.known, self.held = last, state["known"].copy(), state["held"].copy()
        for part in _PARTS:
            setattr(self, part, type(getattr(self, part)).restore(state[part]))


def _usual_plan(seconds: float) -> NDArray[np.float64]:
    """Return what is set for counts, by the distance of windows: bars as those of fast devices, whatever it is."""
    plan = np.full(tuning.WIDTH, np.nan)
    plan[tuning.SMOOTHING], plan[tuning.RECORD_MARGIN], plan[tuning.READY_AFTER] = SMOOTHING, NO_RECORDS, READY_AFTER
    plan[THRESHOLD], plan[SUDDEN] = tuning.fast_bars(seconds)
    return plan


class SurgeFold:
    """The series of the cameras of one partition, and of each label of each camera."""

    def __init__(self, windows: WindowRules, warm_up: int, tunings: Tunings) -> None:
        own = tunings.table([CAMERA_TYPE])
        overrides = np.where(np.isnan(own), _usual_plan(windows.step_ms / 1000), own)
        overrides[:, tuning.DRIFT] = tuning.NEVER  # a surge that goes on is followed by its limits
        self.cameras, self.labels = (SeriesFold(windows, warm_up, overrides) for _ in range(2))

    def fold(self, final: Entries, closed: NDArray[np.int64]) -> tuple[Surges, Surges]:
        """Judge the windows that closed, of cameras (by device row) and of their labels (by row of the pair)."""
        return self.cameras.fold(final, closed, _CAMERAS), self.labels.fold(final, closed, _LABELS)

    def snapshot(self) -> dict[str, Any]:
        """Return what ``restore`` needs."""
        return {
            "last": np.array([self.cameras.last]),
            "cameras": self.cameras.snapshot(),
            "labels": self.labels.snapshot(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where the snapshot was taken."""
        last = int(state["last"][0])
        self.cameras.restore(state["cameras"], last)
        self.labels.restore(state["labels"], last)
