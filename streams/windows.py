"""Event-time windows of one partition: count, sum, sum of squares, min, max for several scopes at once.

Window number w covers [w * hop, w * hop + size): tumbling where hop and size are the same, hopping where the hop is
shorter (an event is in several windows). Arithmetic on event time, no clock inside. The watermark is the newest event
time minus the allowed out-of-orderness; it also moves by ``advance`` when a partition is idle. A window [start, end)
takes events until the watermark reaches end + grace; then its final counts go out, once. An event that comes later than
that for all of its windows is late: it is in none, and counted on the newest window in which the newest event stood.

State is a ring of panes (window number modulo the ring's length), each with one entry a key: what is open at one
time spans at most out-of-orderness + grace + one window.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEVER: Final = -(2**62)
# Columns of an entry.
COUNT, LATE, OFFSET = range(3)
SUM, SQUARES, MIN, MAX = range(4)
# State numbers.
_NEWEST, _WATERMARK, _FIRST_OPEN, _OPEN = range(4)


@dataclass(frozen=True)
class WindowRules:
    """Length and tolerances, milliseconds of event time; a hop of 0 is the length itself (tumbling)."""

    size_ms: int
    grace_ms: int
    out_of_orderness_ms: int
    hop_ms: int = 0

    @property
    def step_ms(self) -> int:
        """From the start of one window to that of the next."""
        return self.hop_ms or self.size_ms

    @property
    def panes(self) -> int:
        """How many windows can be open at once."""
        return (self.out_of_orderness_ms + self.grace_ms + self.size_ms) // self.step_ms + 2


@dataclass(frozen=True)
class Entries:
    """Counts to send: one row an entry; ``at`` is the batch row before which it became final (-1: not in a batch)."""

    scope: NDArray[np.int64]
    key: NDArray[np.int64]
    window: NDArray[np.int64]
    ints: NDArray[np.int64]
    floats: NDArray[np.float64]
    at: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scope)


@dataclass(frozen=True)
class Folded:
    """What a batch did: which rows were late, the device's count after each row, final entries, closed windows.

    ``running`` is the largest count that the device has in one of the row's windows, ``window`` that window's number.
    ``closed`` holds (batch row before which it closed, window number); after a leap of the watermark only the last
    of the skipped empty windows is named.
    """

    is_late: NDArray[np.bool_]
    running: NDArray[np.int64]
    window: NDArray[np.int64]
    final: Entries
    closed: NDArray[np.int64]


@njit(cache=True, nogil=True)
def _close(
    state,
    size,
    hop,
    grace,
    ints,
    floats,
    dirty,
    keys_used,
    out,
    out_ints,
    out_floats,
    filled,
    at,
    closed,
    n_closed,
):
    """Send every window whose end + grace the watermark has reached; return the numbers filled in."""
    last = (state[_WATERMARK] - grace - size) // hop
    if state[_FIRST_OPEN] == NEVER or last < state[_FIRST_OPEN]:
        return filled, n_closed
    panes = ints.shape[1]
    stop = min(last, state[_FIRST_OPEN] + panes - 1)
    for window in range(state[_FIRST_OPEN], stop + 1):
        pane = window % panes
        for scope in range(ints.shape[0]):
            for key in range(keys_used[scope]):
                entry = ints[scope, pane, key]
                if entry[COUNT] == 0 and entry[LATE] == 0:
                    continue
                out[filled, 0] = scope
                out[filled, 1] = key
                out[filled, 2] = window
                out[filled, 3] = at
                out_ints[filled] = entry
                out_floats[filled] = floats[scope, pane, key]
                filled += 1
                state[_OPEN] -= 1
                entry[:] = 0
                dirty[scope, pane, key] = False
        closed[n_closed, 0] = at
        closed[n_closed, 1] = window
        n_closed += 1
    if last > stop:
        closed[n_closed, 0] = at
        closed[n_closed, 1] = last
        n_closed += 1
    state[_FIRST_OPEN] = last + 1
    return filled, n_closed


@njit(cache=True, nogil=True)
def _add(entry, numbers, value, offset):
    if entry[COUNT] == 0:
        numbers[MIN] = value
        numbers[MAX] = value
        numbers[SUM] = 0.0
        numbers[SQUARES] = 0.0
    numbers[SUM] += value
    numbers[SQUARES] += value * value
    numbers[MIN] = min(numbers[MIN], value)
    numbers[MAX] = max(numbers[MAX], value)
    entry[COUNT] += 1
    entry[OFFSET] = offset


@njit(cache=True, nogil=True)
def _fold(
    times,
    offsets,
    values,
    keys,
    state,
    size,
    hop,
    grace,
    slack,
    ints,
    floats,
    dirty,
    keys_used,
    late,
    running,
    windows,
    out,
    out_ints,
    out_floats,
    closed,
):
    filled = 0
    n_closed = 0
    panes = ints.shape[1]
    for i in range(times.shape[0]):
        time = times[i]
        if time > state[_NEWEST]:
            state[_NEWEST] = time
            state[_WATERMARK] = max(state[_WATERMARK], time - slack)
            filled, n_closed = _close(
                state,
                size,
                hop,
                grace,
                ints,
                floats,
                dirty,
                keys_used,
                out,
                out_ints,
                out_floats,
                filled,
                i,
                closed,
                n_closed,
            )
        last = time // hop
        late[i] = last * hop + size + grace <= state[_WATERMARK]
        if late[i]:
            last = max(state[_NEWEST] // hop, state[_FIRST_OPEN])
            first = last
        else:
            if state[_FIRST_OPEN] == NEVER:
                state[_FIRST_OPEN] = (state[_WATERMARK] - grace - size) // hop + 1
            first = max((time - size) // hop + 1, state[_FIRST_OPEN])
        running[i] = 0
        windows[i] = last
        for window in range(first, last + 1):
            pane = window % panes
            for scope in range(ints.shape[0]):
                key = keys[scope, i]
                entry = ints[scope, pane, key]
                if entry[COUNT] == 0 and entry[LATE] == 0:
                    state[_OPEN] += 1
                if late[i]:
                    if entry[COUNT] == 0 and entry[LATE] == 0:
                        floats[scope, pane, key] = 0.0
                    entry[LATE] += 1
                    entry[OFFSET] = offsets[i]
                else:
                    _add(entry, floats[scope, pane, key], values[i], offsets[i])
                dirty[scope, pane, key] = True
            count = ints[0, pane, keys[0, i]][COUNT]
            if not late[i] and count > running[i]:
                running[i] = count
                windows[i] = window
    return filled, n_closed


class WindowFold:
    """Open windows of one partition for ``scopes`` scopes; scope 0 is the device."""

    def __init__(self, rules: WindowRules, scopes: int) -> None:
        self.rules = rules
        self.state = np.array([NEVER, NEVER, NEVER, 0], np.int64)
        self.keys_used = np.zeros(scopes, np.int64)
        self.ints = np.zeros((scopes, rules.panes, 16, 3), np.int64)
        self.floats = np.zeros((scopes, rules.panes, 16, 4), np.float64)
        self.dirty = np.zeros((scopes, rules.panes, 16), np.bool_)

    @property
    def watermark_ms(self) -> int:
        """No earlier event time is expected; NEVER before the first event."""
        return int(self.state[_WATERMARK])

    @property
    def open_entries(self) -> int:
        """How many counts are open."""
        return int(self.state[_OPEN])

    def is_open(self, scope: int, keys: int) -> NDArray[np.bool_]:
        """Return which of the first keys of a scope have something in an open window."""
        found = np.zeros(keys, np.bool_)
        room = self.ints.shape[2]
        found[:room] = self.ints[scope, :, :keys, COUNT : LATE + 1].any(axis=(0, 2))
        return found

    def fold(
        self,
        times: NDArray[np.int64],
        offsets: NDArray[np.int64],
        values: NDArray[np.float64],
        keys: NDArray[np.int64],
    ) -> Folded:
        """Count a batch in offset order; ``keys`` has shape (scopes, n)."""
        count = len(times)
        self._reserve(keys)
        rules = self.rules
        room = self.open_entries + count * len(self.keys_used) * -(-rules.size_ms // rules.step_ms)
        out, out_ints = np.empty((room, 4), np.int64), np.empty((room, 3), np.int64)
        out_floats = np.empty((room, 4), np.float64)
        closed = np.empty(((count + 1) * (self.rules.panes + 1), 2), np.int64)
        late, running, windows = np.empty(count, np.bool_), np.empty(count, np.int64), np.empty(count, np.int64)
        filled, n_closed = _fold(
            times,
            offsets,
            values,
            keys,
            self.state,
            rules.size_ms,
            rules.step_ms,
            rules.grace_ms,
            rules.out_of_orderness_ms,
            self.ints,
            self.floats,
            self.dirty,
            self.keys_used,
            late,
            running,
            windows,
            out,
            out_ints,
            out_floats,
            closed,
        )
        return Folded(late, running, windows, _entries(out, out_ints, out_floats, filled), closed[:n_closed])

    def advance(self, watermark_ms: int) -> tuple[Entries, NDArray[np.int64]]:
        """Move the watermark by the clock (an idle partition); return what became final and the closed windows."""
        room = self.open_entries
        out, out_ints = np.empty((room, 4), np.int64), np.empty((room, 3), np.int64)
        out_floats = np.empty((room, 4), np.float64)
        closed = np.empty((self.rules.panes + 1, 2), np.int64)
        filled = n_closed = 0
        if self.state[_FIRST_OPEN] != NEVER and watermark_ms > self.state[_WATERMARK]:
            self.state[_WATERMARK] = watermark_ms
            filled, n_closed = _close(
                self.state,
                self.rules.size_ms,
                self.rules.step_ms,
                self.rules.grace_ms,
                self.ints,
                self.floats,
                self.dirty,
                self.keys_used,
                out,
                out_ints,
                out_floats,
                0,
                -1,
                closed,
                0,
            )
        return _entries(out, out_ints, out_floats, filled), closed[:n_closed]

    def early(self) -> Entries:
        """Return the open entries that changed since they were last asked for."""
        scope, pane, key = np.nonzero(self.dirty)
        self.dirty[:] = False
        first, panes = int(self.state[_FIRST_OPEN]), self.rules.panes
        window = first + (pane - first) % panes
        return Entries(
            scope,
            key,
            window,
            self.ints[scope, pane, key],
            self.floats[scope, pane, key],
            np.full(len(scope), -1, np.int64),
        )

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return what ``restore`` needs."""
        return {
            "rules": np.array(astuple(self.rules), np.int64),
            "state": self.state,
            "keys_used": self.keys_used,
            "ints": self.ints,
            "floats": self.floats,
            "dirty": self.dirty,
        }

    @classmethod
    def restore(cls, rules: WindowRules, state: dict[str, NDArray[Any]]) -> WindowFold:
        """Return a fold that goes on where the snapshot was taken.

        Raises:
            ValueError: the snapshot was taken with other window rules.

        """
        fold = cls(rules, len(state["keys_used"]))
        if not np.array_equal(state["rules"], np.array(astuple(rules), np.int64)):
            raise ValueError("the stored windows have other lengths than the settings")
        fold.state, fold.keys_used = state["state"].copy(), state["keys_used"].copy()
        fold.ints, fold.floats = state["ints"].copy(), state["floats"].copy()
        fold.dirty = state["dirty"].copy()
        return fold

    def _reserve(self, keys: NDArray[np.int64]) -> None:
        if keys.shape[1] == 0:
            return
        self.keys_used = np.maximum(self.keys_used, keys.max(axis=1) + 1)
        needed, size = int(self.keys_used.max()), self.dirty.shape[2]
        if needed > size:
            more = max(needed, 2 * size) - size
            self.ints = np.pad(self.ints, ((0, 0), (0, 0), (0, more), (0, 0)))
            self.floats = np.pad(self.floats, ((0, 0), (0, 0), (0, more), (0, 0)))
            self.dirty = np.pad(self.dirty, ((0, 0), (0, 0), (0, more)))


def _entries(out: NDArray[np.int64], ints: NDArray[np.int64], floats: NDArray[np.float64], filled: int) -> Entries:
    out = out[:filled]
    return Entries(out[:, 0], out[:, 1], out[:, 2], ints[:filled], floats[:filled], out[:, 3])
