"""What surge rules make of judged windows: which camera sees unusually much or little, of what, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams.explain import one_in
from streams.surges import FEATURES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streams.names import Names
    from streams.rules import Openings, SurgeRule
    from streams.surges import Surges


class Turn(NamedTuple):
    """A surge rule fires or resolves for a camera: ``at`` as in ``Surges``, times in ms, ``limit`` what was usual."""

    row: int
    at: int
    fires: bool
    started_ms: int
    ended_ms: int
    value: float
    limit: float
    why: str


def judge(
    rule: SurgeRule,
    names: Names,
    openings: Openings,
    matches: NDArray[np.bool_],
    judged: tuple[Surges, Surges],
) -> list[Turn]:
    """Open and close a rule's alerts over windows of cameras and of their labels; return what changed, in order."""
    cameras, labels = judged
    pair_device, pair_kind = _pairs(names)
    chosen = [names.kinds.name(number).decode() for number in range(names.kinds.count)]
    is_chosen = np.array([rule.labels is None or name in rule.labels for name in chosen], np.bool_)
    on_camera = _is_on(rule, cameras) & matches[cameras.row] & (rule.labels is None)
    label_device, label_kind = pair_device[labels.row], pair_kind[labels.row]
    on_label = _is_on(rule, labels) & matches[label_device] & is_chosen[label_kind]
    # every window has a row for each camera: a label's belongs to the row of its camera and window
    ends, room = np.unique(cameras.ended), names.devices.count
    owner = np.searchsorted(
        np.searchsorted(ends, cameras.ended) * room + cameras.row,
        np.searchsorted(ends, labels.ended) * room + label_device,
    )
    is_on = on_camera.copy()
    is_on[owner[on_label]] = True
    quiet_ms = int(rule.quiet_seconds * 1000)
    turns = []
    for row, at, fires, started in openings.fold(cameras.row, cameras.ended, is_on, ~is_on, quiet_ms).tolist():
        found, number, what = cameras, at, ""
        mine = np.flatnonzero(on_label & (owner == at)) if fires else np.zeros(0, np.int64)
        if len(mine) and not on_camera[at]:
            number = int(mine[labels.excess[mine].argmax()])
            found, what = labels, f"{chosen[int(label_kind[number])]}: "
        turns.append(
            Turn(
                row=row,
                at=int(cameras.at[at]),
                fires=bool(fires),
                started_ms=started,
                ended_ms=int(cameras.ended[at]),
                value=float(found.count[number]),
                limit=float((found.high if rule.direction == "above" else found.low)[number]),
                why=what + _why(found, number) if fires else "",
            )
        )
    return turns


def _is_on(rule: SurgeRule, found: Surges) -> NDArray[np.bool_]:
    """Return where a series has unusually many, or few, for the rule."""
    if rule.direction == "above":
        return found.is_above & (found.count >= rule.at_least)
    return found.is_below & (found.low >= rule.at_least)


def _why(found: Surges, number: int) -> str:
    what = FEATURES[int(found.feature[number])] % one_in(float(found.rarity[number]))
    low, high = np.ceil(found.low[number]), np.floor(found.high[number])
    return f"{what}; usually {low:.0f} to {high:.0f}"


def _pairs(names: Names) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the device and the label of each pair's row."""
    arena, starts, _ = names.pairs.spans()
    table = arena[: 16 * len(starts)].view(np.int64).reshape(len(starts), 2)
    return table[:, 0], table[:, 1]
