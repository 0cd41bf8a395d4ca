"""Calibration: raw scores of a sensor type's models become comparable. One compiled fold in offset order.

Each detector's raw score is compared with its own past for that sensor type: H = -log10 of the share of past scores
that were at least as high, so that "1 in 10,000" means the same for every detector. Past scores fade with a half-life
of ``HALF_LIFE`` readings. As a score: 1 - 10 ** -H.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS: Final = 256
HALF_LIFE: Final = 20_000
EVIDENCE_THRESHOLD: Final = 4.0
"""The bar of the alarm policy, whatever the detector, as a combined score: 0.9999."""
_GROWTH: Final = 2.0 ** (1.0 / HALF_LIFE)


@njit(cache=True, nogil=True)
def _tail(histogram, weight, score):
    """H of a score in a histogram, then the score joins it."""
    place = min(max(int(score * BINS), 0), BINS - 1)
    above = 0.0
    for k in range(place, BINS):
        above += histogram[k]
    total = above
    for k in range(place):
        total += histogram[k]
    histogram[place] += weight
    return -np.log10((above + weight) / (total + weight))


@njit(cache=True, nogil=True)
def _fold(models, raw, usable, histograms, weights, tails):
    for i in range(models.shape[0]):
        m = models[i]
        for d in range(raw.shape[1]):
            if usable[i, d]:
                tails[i, d] = _tail(histograms[m, d], weights[m], raw[i, d])
        weights[m] *= _GROWTH
        if weights[m] > 1e12:
            histograms[m] /= weights[m]
            weights[m] = 1.0


class PolicyFold:
    """Calibration state for each model number (sensor type): a fading histogram a detector."""

    def __init__(self, detectors: int) -> None:
        self.histograms = np.zeros((0, detectors, BINS), np.float64)
        self.weights = np.ones(0, np.float64)

    def fold(
        self, models: NDArray[np.int64], raw: NDArray[np.float64], usable: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return each detector's H (n, detectors), NaN where unusable."""
        more = int(models.max(initial=-1)) + 1 - len(self.weights)
        if more > 0:
            shape = (more, *self.histograms.shape[1:])
            self.histograms = np.concatenate([self.histograms, np.zeros(shape)])
            self.weights = np.concatenate([self.weights, np.ones(more)])
        tails = np.full(raw.shape, np.nan)
        _fold(models, raw, usable, self.histograms, self.weights, tails)
        return tails

    def replace(self, model: int, detector: int, calibration: tuple[NDArray[np.float64], float] | None) -> None:
        """Replace a detector's histogram for a model number: by another one and its weight, or by none."""
        if calibration is None:
            self.histograms[model, detector] = 0.0
        else:
            histogram, weight = calibration
            self.histograms[model, detector] = histogram * (self.weights[model] / weight)

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return what ``restore`` needs."""
        return {"histograms": self.histograms, "weights": self.weights}

    @classmethod
    def restore(cls, state: dict[str, NDArray[Any]]) -> PolicyFold:
        """Return a fold that goes on where the snapshot was taken."""
        fold = cls(state["histograms"].shape[1])
        fold.histograms, fold.weights = state["histograms"].copy(), state["weights"].copy()
        return fold


def as_score(tail: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map H or evidence (powers of ten) to a score in 0..1."""
    score: NDArray[Any] = 1.0 - 10.0 ** -np.maximum(tail, 0.0)
    return score
