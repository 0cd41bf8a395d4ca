"""Half-space trees (Tan, Ting, Liu 2011) as a compiled fold, equal to River's ``HalfSpaceTrees`` event by event.

The trees themselves are grown by River (same seed, same trees); only walking and counting is done here. A test
compares every score with River's.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import njit

from streams.features import COUNT

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_TREES: Final = 10
HEIGHT: Final = 8
WINDOW: Final = 250
SEED: Final = 42
NODES: Final = 2 ** (HEIGHT + 1) - 1
NAME: Final = f"river.HalfSpaceTrees({N_TREES}x{HEIGHT}, window {WINDOW})"


@cache
def grow_trees(seed: int = SEED) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return River's trees as heaps: the feature and the threshold of each inner node, shape (N_TREES, NODES)."""
    from river.anomaly import HalfSpaceTrees  # noqa: PLC0415  # slow to import, needed once

    model = HalfSpaceTrees(n_trees=N_TREES, height=HEIGHT, window_size=WINDOW, seed=seed)
    model.learn_one(dict.fromkeys(range(COUNT), 0.5))
    features = np.zeros((N_TREES, NODES), np.int64)
    thresholds = np.zeros((N_TREES, NODES), np.float64)

    def place(node: Any, tree: int, at: int) -> None:
        children = getattr(node, "children", None)
        if children:
            features[tree, at], thresholds[tree, at] = node.feature, node.threshold
            place(children[0], tree, 2 * at + 1)
            place(children[1], tree, 2 * at + 2)

    for tree, root in enumerate(model.trees):
        place(root, tree, 0)
    return features, thresholds


@njit(cache=True, nogil=True)
def _fold(models, x, tree_features, tree_thresholds, learned, reference, counter, warm, out):
    """Score, then learn, in order. ``learned`` is River's l_mass, ``reference`` its r_mass."""
    size_limit = 0.1 * WINDOW
    max_score = N_TREES * WINDOW * (2 ** (HEIGHT + 1) - 1)
    for i in range(models.shape[0]):
        m = models[i]
        total = 0.0
        for tree in range(N_TREES):
            node = 0
            power = 1
            scoring = warm[m]
            for _ in range(HEIGHT):
                if scoring:
                    mass = reference[m, tree, node]
                    total += mass * power
                    scoring = not mass < size_limit
                    power *= 2
                learned[m, tree, node] += 1
                go_left = x[i, tree_features[tree, node]] < tree_thresholds[tree, node]
                node = 2 * node + (1 if go_left else 2)
            if scoring:
                total += reference[m, tree, node] * power
            learned[m, tree, node] += 1
        out[i] = 1.0 - total / max_score if warm[m] else np.nan
        counter[m] += 1
        if counter[m] == WINDOW:
            reference[m] = learned[m]
            learned[m] = 0
            warm[m] = True
            counter[m] = 0


class HalfSpaceTreesFold:
    """One model per number (sensor type): state as arrays, grown as types appear."""

    def __init__(self) -> None:
        self.learned = np.zeros((0, N_TREES, NODES), np.int32)
        self.reference = np.zeros((0, N_TREES, NODES), np.int32)
        self.counter = np.zeros(0, np.int64)
        self.warm = np.zeros(0, np.bool_)

    def fold(self, models: NDArray[np.int64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score each row of ``x`` (n, COUNT) with its model, then learn it, in order.

        A model that is still cold gives NaN (River says 0).
        """
        self._reserve(int(models.max(initial=-1)) + 1)
        out = np.empty(len(models), np.float64)
        features, thresholds = grow_trees()
        _fold(models, x, features, thresholds, self.learned, self.reference, self.counter, self.warm, out)
        return out

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return what ``restore`` needs."""
        return {
            "learned": self.learned,
            "reference": self.reference,
            "counter": self.counter,
            "warm": self.warm,
        }

    @classmethod
    def restore(cls, state: dict[str, NDArray[Any]]) -> HalfSpaceTreesFold:
        """Return a fold that goes on where the snapshot was taken."""
        fold = cls()
        fold.learned, fold.reference = state["learned"].copy(), state["reference"].copy()
        fold.counter, fold.warm = state["counter"].copy(), state["warm"].copy()
        return fold

    def _reserve(self, models: int) -> None:
        more = models - len(self.counter)
        if more > 0:
            empty = np.zeros((more, N_TREES, NODES), np.int32)
            self.learned = np.concatenate([self.learned, empty])
            self.reference = np.concatenate([self.reference, empty])
            self.counter = np.concatenate([self.counter, np.zeros(more, np.int64)])
            self.warm = np.concatenate([self.warm, np.zeros(more, np.bool_)])
