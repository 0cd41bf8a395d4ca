"""Any detector of River as one more voice: one model for each model number (sensor type), fed as half-space trees are.

A model's state is what it learned: the newest WINDOW to 2 WINDOW samples as plain numbers, nothing of River's own.
The first WINDOW of them and all that follow are learned by the model in force; those that follow also by its
successor, which takes over when 2 WINDOW are full, and the older half is forgotten. So a model is a function of the
kept samples, and learning them again restores it bit for bit.

River's scores have no common scale. For a raw score s:

    z = (asinh(s) - m) / d,    score = 0.5 + 0.5 z / (4 + abs(z))

m and d are mean and deviation of asinh(s) over the first WINDOW scores, or over as many more as it takes until they
differ at all. Those are not reported, and m and d stay as they are: whenever they were measured anew, H was wrong by up
to 1.7 powers of ten, since the calibration holds scores of the old scale. The order is kept however far out, one score
of a billion does not blind it to the rest, and 256 bins still resolve scores whose deviation becomes a twentieth or
twenty times of d.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from streams.features import COUNT, NAMES
from streams.river_names import SAMPLES, new_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streams.river_names import Parameters

WINDOW: Final = SAMPLES
"""Samples before the first score. Twice as many cost LocalOutlierFactor three times the time."""

_FLAT: Final = 1e-18
"""A variance of asinh(s) that is none."""


class RiverDetectorFold:
    """One River model per number (sensor type), made from a name and the constructor's parameters."""

    def __init__(self, name: str, parameters: Parameters, window: int = WINDOW) -> None:
        self.name, self.parameters, self.window = name, parameters, window
        self._models: list[_Model] = []

    def fold(
        self, models: NDArray[np.int64], x: NDArray[np.float64], usable: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """Score each usable row of ``x`` (n, COUNT) with its model, then learn it, in order.

        NaN where it is not usable, while a model is cold (WINDOW samples) or without a scale (as many scores), and
        where River gives no finite number.
        """
        while len(self._models) <= models.max(initial=-1):
            self._models.append(_Model(self))
        out = np.full(len(models), np.nan)
        chosen = np.arange(len(models)) if usable is None else np.flatnonzero(usable)
        for row, number, values in zip(chosen.tolist(), models[chosen].tolist(), x[chosen].tolist(), strict=True):
            model = self._models[number]
            if not model.is_cold:
                out[row] = model.score_one(values)
            model.learn_one(values)
        return out

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return what ``restore`` needs."""
        count = len(self._models)
        samples = np.zeros((count, 2 * self.window, COUNT))
        for number, model in enumerate(self._models):
            samples[number, : len(model.samples)] = np.array(model.samples).reshape(-1, COUNT)
        scale = [model.scale.as_tuple() for model in self._models]
        return {
            "samples": samples,
            "counts": np.array([len(model.samples) for model in self._models], np.int64),
            "scale": np.array(scale, np.float64).reshape(count, 5),
        }

    def restore(self, state: dict[str, NDArray[Any]], *, with_scale: bool = True) -> None:
        """Go on where the snapshot was taken; one of another window or of other features begins anew.

        ``with_scale``: scores will be as they were; not if the parameters are others now.
        """
        if state["samples"].shape[1:] != (2 * self.window, COUNT):
            return
        self._models = []
        for samples, count, scale in zip(state["samples"], state["counts"].tolist(), state["scale"], strict=True):
            model = _Model(self)
            for values in samples[:count].tolist():
                model.learn_one(values)
            if with_scale:
                model.scale = _Scale(*scale.tolist())
            self._models.append(model)


class _Scale:
    """Maps a model's scores to 0..1: how many there were, their running mean and variance, and what is in force."""

    def __init__(
        self, seen: float = 0.0, mean: float = 0.0, squares: float = 0.0, centre: float = math.nan, spread: float = 0.0
    ) -> None:
        self.seen, self.mean, self.squares, self.centre, self.spread = seen, mean, squares, centre, spread

    def as_tuple(self) -> tuple[float, ...]:
        return self.seen, self.mean, self.squares, self.centre, self.spread

    def place(self, raw: float, settle: int) -> float:
        """Return where in 0..1 a raw score lies, NaN for those that make the scale: ``settle`` or more."""
        score = math.asinh(raw)
        if math.isnan(self.centre):
            self.seen += 1.0
            delta = score - self.mean
            self.mean += delta / self.seen
            self.squares += delta * (score - self.mean)
            if self.seen >= settle and self.squares > _FLAT * self.seen:
                self.centre, self.spread = self.mean, math.sqrt(self.squares / self.seen)
            return math.nan
        z = (score - self.centre) / self.spread
        return 0.5 + 0.5 * z / (4.0 + abs(z))


class _Model:
    """The model in force, its successor, the samples that they have learned, and the scale of the scores."""

    def __init__(self, fold: RiverDetectorFold) -> None:
        self._new = lambda: new_model(fold.name, fold.parameters)
        self._window = fold.window
        self._current, self._next = self._new(), self._new()
        self.samples: list[list[float]] = []
        self.scale = _Scale()

    @property
    def is_cold(self) -> bool:
        return len(self.samples) < self._window

    def score_one(self, values: list[float]) -> float:
        """Return the score in 0..1; the models stay as they are."""
        score = float(self._current.score_one(dict(zip(NAMES, values, strict=True))))
        return self.scale.place(score, self._window) if math.isfinite(score) else math.nan

    def learn_one(self, values: list[float]) -> None:
        self._current.learn_one(dict(zip(NAMES, values, strict=True)))
        if not self.is_cold:
            self._next.learn_one(dict(zip(NAMES, values, strict=True)))
        self.samples.append(values)
        if len(self.samples) == 2 * self._window:
            self._current, self._next = self._next, self._new()
            del self.samples[: self._window]
