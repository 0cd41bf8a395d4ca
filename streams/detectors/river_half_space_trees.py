"""Half-space trees by River itself: the reference that the compiled fold equals, for whoever wants to see it at work.

Some 40 times slower. Snapshots are those of ``HalfSpaceTreesFold``: either goes on where the other stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from streams.detectors.half_space_trees import HEIGHT, N_TREES, NODES, SEED, WINDOW, HalfSpaceTreesFold
from streams.features import COUNT

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RiverHalfSpaceTreesFold:
    """One River model per number (sensor type)."""

    def __init__(self) -> None:
        self._models: list[Any] = []

    def fold(self, models: NDArray[np.int64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score each row of ``x`` (n, COUNT) with its model, then learn it, in order; NaN while a model is cold."""
        while len(self._models) <= models.max(initial=-1):
            self._models.append(_new_model())
        out = np.full(len(models), np.nan)
        for row, (number, values) in enumerate(zip(models.tolist(), x.tolist(), strict=True)):
            model, sample = self._models[number], dict(enumerate(values))
            if not _is_cold(model):
                out[row] = model.score_one(sample)
            model.learn_one(sample)
        return out

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return what ``restore`` needs."""
        count = len(self._models)
        learned, reference = (np.zeros((count, N_TREES, NODES), np.int32) for _ in range(2))
        for number, model in enumerate(self._models):
            for tree, root in enumerate(model.trees):
                for at, node in _heap(root):
                    learned[number, tree, at], reference[number, tree, at] = node.l_mass, node.r_mass
        return {
            "learned": learned,
            "reference": reference,
            "counter": np.array([model.counter for model in self._models], np.int64),
            "warm": np.array([not _is_cold(model) for model in self._models], np.bool_),
        }

    @classmethod
    def restore(cls, state: dict[str, NDArray[Any]]) -> Self:
        """Return a fold that goes on where the snapshot was taken."""
        fold = cls()
        for number in range(len(state["counter"])):
            model = _new_model()
            for tree, root in enumerate(model.trees):
                for at, node in _heap(root):
                    node.l_mass = int(state["learned"][number, tree, at])
                    node.r_mass = int(state["reference"][number, tree, at])
            model.counter = int(state["counter"][number])
            model._first_window = not state["warm"][number]  # noqa: SLF001  # all of River's own state
            fold._models.append(model)
        return fold


def _new_model() -> Any:
    """Return a model with its trees grown, and nothing learned."""
    from river.anomaly import HalfSpaceTrees  # noqa: PLC0415  # slow to import

    model = HalfSpaceTrees(n_trees=N_TREES, height=HEIGHT, window_size=WINDOW, seed=SEED)
    model.learn_one(dict.fromkeys(range(COUNT), 0.5))
    model.counter = 0
    for root in model.trees:
        for _, node in _heap(root):
            node.l_mass = node.r_mass = 0
    return model


def _is_cold(model: Any) -> bool:
    return bool(model._first_window)  # noqa: SLF001  # River says 0 then, which could be a score


def _heap(node: Any, at: int = 0) -> list[tuple[int, Any]]:
    """Return the nodes of a tree with their places in a heap."""
    found = [(at, node)]
    children = getattr(node, "children", None)
    if children:
        found += _heap(children[0], 2 * at + 1) + _heap(children[1], 2 * at + 2)
    return found


TREES_BY: Final[dict[str, type[HalfSpaceTreesFold | RiverHalfSpaceTreesFold]]] = {
    "kernel": HalfSpaceTreesFold,
    "river": RiverHalfSpaceTreesFold,
}
"""Who computes half-space trees, by the name of the setting."""
