"""``WindowFold`` against a slow reference in dicts, for any times, any keys and any batch cuts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.windows import COUNT, LATE, MAX, MIN, NEVER, OFFSET, SQUARES, SUM, Entries, Folded, WindowFold, WindowRules
from tests.unit.streams.lanes import through_the_changelog

SCOPES = 3
MODEST = settings(max_examples=120, deadline=None)
CLOSE = 1e-9

Identity = tuple[int, int, int]
"""Scope, key, window."""
Row = tuple[int, int, int, float, float, float, float]
"""Count, late, offset, sum, squares, min, max."""


@dataclass
class Reference:
    """Windows in dicts, one event at a time, without a ring."""

    rules: WindowRules
    newest: int | None = None
    watermark: int | None = None
    open: dict[Identity, Row] = field(default_factory=dict)
    final: list[tuple[Identity, Row]] = field(default_factory=list)

    def is_closed(self, window: int) -> bool:
        assert self.watermark is not None
        return window * self.rules.step_ms + self.rules.size_ms + self.rules.grace_ms <= self.watermark

    def close(self) -> None:
        for identity in sorted(self.open, key=lambda it: (it[2], it[0], it[1])):
            if self.is_closed(identity[2]):
                self.final.append((identity, self.open.pop(identity)))

    def advance(self, watermark: int) -> None:
        if self.watermark is not None and watermark > self.watermark:
            self.watermark = watermark
            self.close()

    def add(self, time: int, offset: int, value: float, keys: tuple[int, ...]) -> tuple[bool, int]:
        """Return whether it was late, and the count of scope 0 after it."""
        if self.newest is None or time > self.newest:
            self.newest = time
            mark = time - self.rules.out_of_orderness_ms
            self.watermark = mark if self.watermark is None else max(self.watermark, mark)
            self.close()
        hop = self.rules.step_ms
        windows = range((time - self.rules.size_ms) // hop + 1, time // hop + 1)
        mine = [window for window in windows if not self.is_closed(window)]
        late = not mine
        if late:
            window = self.newest // hop
            while self.is_closed(window):
                window += 1
            mine = [window]
        for window in mine:
            for scope, key in enumerate(keys):
                identity = (scope, key, window)
                count, lates, _, total, squares, low, high = self.open.get(identity, (0, 0, 0, 0.0, 0.0, 0.0, 0.0))
                if late:
                    self.open[identity] = (count, lates + 1, offset, total, squares, low, high)
                else:
                    first = count == 0
                    low, high = (value, value) if first else (min(low, value), max(high, value))
                    row = (count + 1, lates, offset, total + value, squares + value * value, low, high)
                    self.open[identity] = row
        return late, 0 if late else max(self.open[(0, keys[0], window)][0] for window in mine)


def rows_of(entries: Entries) -> list[tuple[Identity, Row]]:
    order = np.array([COUNT, LATE, OFFSET])
    floats = np.array([SUM, SQUARES, MIN, MAX])
    return [
        (
            (int(entries.scope[k]), int(entries.key[k]), int(entries.window[k])),
            (*entries.ints[k, order].tolist(), *entries.floats[k, floats].tolist()),
        )
        for k in range(len(entries))
    ]


@dataclass(frozen=True)
class Stream:
    """Events as columns."""

    times: np.ndarray
    values: np.ndarray
    keys: np.ndarray

    def __len__(self) -> int:
        return len(self.times)

    def fold(self, windows: WindowFold, start: int, stop: int) -> Folded:
        part = slice(start, stop)
        offsets = np.arange(start, stop, dtype=np.int64) * 3 + 1
        return windows.fold(self.times[part], offsets, self.values[part], np.ascontiguousarray(self.keys[:, part]))

    def add(self, reference: Reference, k: int) -> tuple[bool, int]:
        keys = tuple(self.keys[:, k].tolist())
        return reference.add(int(self.times[k]), 3 * k + 1, float(self.values[k]), keys)


@st.composite
def rules(draw: st.DrawFn) -> WindowRules:
    size = draw(st.sampled_from([1, 7, 1000]))
    some = st.integers(0, 3 * size)
    hop = draw(st.sampled_from([0, 0, size, max(size // 2, 1), max(size // 3, 1), max(size * 3 // 5, 1)]))
    return WindowRules(size_ms=size, grace_ms=draw(some), out_of_orderness_ms=draw(some), hop_ms=hop)


@st.composite
def streams(draw: st.DrawFn, size: int, most: int = 60) -> Stream:
    """Steps forward, back (some of them late) and far leaps, from before 1970 to long after."""
    step = st.one_of(
        st.integers(-size, 2 * size),
        st.integers(-6 * size, 6 * size),
        st.sampled_from([0, 1, -1, 40 * size, -40 * size, 10**6 * size]),
    )
    start = draw(st.sampled_from([-5 * size, 0, 1_700_000_000_000]))
    steps = draw(st.lists(step, min_size=1, max_size=most))
    count = len(steps)
    values = draw(st.lists(st.floats(-1e6, 1e6), min_size=count, max_size=count))
    keys = draw(st.lists(st.tuples(*[st.integers(0, 40)] * SCOPES), min_size=count, max_size=count))
    return Stream(
        start + np.cumsum(np.array(steps, np.int64)),
        np.array(values, np.float64),
        np.array(keys, np.int64).T.reshape(SCOPES, count),
    )


@st.composite
def ruled_streams(draw: st.DrawFn) -> tuple[WindowRules, Stream]:
    found = draw(rules())
    return found, draw(streams(found.size_ms))


def bounds_of(count: int, cuts: set[int]) -> list[tuple[int, int]]:
    marks = [0, *sorted(cut for cut in cuts if 0 < cut < count), count]
    return list(itertools.pairwise(marks))


cut_sets = st.one_of(st.just(set(range(100))), st.sets(st.integers(1, 60), max_size=8))


@MODEST
@given(ruled_streams(), cut_sets, st.data())
def test_equal_to_the_reference_bit_for_bit_wherever_a_batch_is_cut(
    drawn: tuple[WindowRules, Stream], cuts: set[int], data: st.DataObject
) -> None:
    """Finals (order included), late marks, running counts, watermark; with the clock moving in between."""
    the_rules, stream = drawn
    windows, reference = WindowFold(the_rules, SCOPES), Reference(the_rules)
    final: list[tuple[Identity, Row]] = []
    ahead = st.one_of(st.none(), st.integers(-2 * the_rules.size_ms, 5 * the_rules.size_ms))
    for start, stop in bounds_of(len(stream), cuts):
        folded = stream.fold(windows, start, stop)
        final += rows_of(folded.final)
        expected = [stream.add(reference, k) for k in range(start, stop)]
        assert list(zip(folded.is_late.tolist(), folded.running.tolist(), strict=True)) == expected
        assert windows.watermark_ms == reference.watermark
        if (by := data.draw(ahead)) is not None:
            entries, _ = windows.advance(windows.watermark_ms + by)
            final += rows_of(entries)
            assert reference.watermark is not None
            reference.advance(reference.watermark + by)
    assert windows.open_entries == len(reference.open)
    assert reference.watermark is not None
    entries, _ = windows.advance(2**61)
    final += rows_of(entries)
    reference.advance(2**61)
    assert final == reference.final
    counted = [identity for identity, _ in final]
    assert len(counted) == len(set(counted))
    assert windows.open_entries == 0


@MODEST
@given(ruled_streams(), cut_sets)
def test_counts_conserve_events(drawn: tuple[WindowRules, Stream], cuts: set[int]) -> None:
    """In each scope every event is in one window (tumbling), or late in one."""
    the_rules, stream = drawn
    the_rules = replace(the_rules, hop_ms=0)
    windows = WindowFold(the_rules, SCOPES)
    total = np.zeros((SCOPES, 2), np.int64)
    parts = [stream.fold(windows, start, stop).final for start, stop in bounds_of(len(stream), cuts)]
    for entries in (*parts, windows.advance(2**61)[0]):
        for column, number in enumerate((COUNT, LATE)):
            np.add.at(total, (entries.scope, column), entries.ints[:, number])
    assert total.sum(axis=1).tolist() == [len(stream)] * SCOPES
    assert (total == total[0]).all()


@MODEST
@given(ruled_streams(), cut_sets, st.sets(st.integers(0, 60)))
def test_early_counts_are_what_the_window_holds_and_the_final_one_is_the_last_word(
    drawn: tuple[WindowRules, Stream], cuts: set[int], asked: set[int]
) -> None:
    """They equal the reference's open ones; what has changed since is given again; none comes after the final."""
    the_rules, stream = drawn
    windows, reference = WindowFold(the_rules, SCOPES), Reference(the_rules)
    known: dict[Identity, Row] = {}
    finished: set[Identity] = set()
    for start, stop in bounds_of(len(stream), cuts):
        for identity, _ in rows_of(stream.fold(windows, start, stop).final):
            finished.add(identity)
            known.pop(identity, None)
        for k in range(start, stop):
            stream.add(reference, k)
        if stop in asked:
            early = rows_of(windows.early())
            assert not finished & {identity for identity, _ in early}
            known |= dict(early)
            assert known == reference.open


@MODEST
@given(ruled_streams(), cut_sets, st.integers(0, 60), st.booleans())
def test_a_snapshot_at_any_point_changes_nothing(
    drawn: tuple[WindowRules, Stream], cuts: set[int], at: int, through_bytes: bool
) -> None:
    the_rules, stream = drawn
    at = min(at, len(stream))
    straight, resumed = WindowFold(the_rules, SCOPES), WindowFold(the_rules, SCOPES)
    expected = rows_of(stream.fold(straight, 0, len(stream)).final)
    found = rows_of(stream.fold(resumed, 0, at).final)
    snapshot = resumed.snapshot()
    if through_bytes:
        snapshot = through_the_changelog(snapshot)
    later = WindowFold.restore(the_rules, snapshot)
    stream.fold(resumed, 0, len(stream))  # the snapshot's owner goes on: the restored one has its own arrays
    for start, stop in bounds_of(len(stream), cuts | {at}):
        if start >= at:
            found += rows_of(stream.fold(later, start, stop).final)
    assert found == expected
    assert rows_of(later.advance(2**61)[0]) == rows_of(straight.advance(2**61)[0])


@MODEST
@given(rules(), st.integers(1, 60), st.randoms(use_true_random=False), st.data())
def test_shuffling_inside_the_allowed_out_of_orderness_gives_the_same_windows(
    the_rules: WindowRules, count: int, random: object, data: st.DataObject
) -> None:
    """None is late; counts, min and max are equal, sums within rounding (floats are added in another order)."""
    slack = the_rules.out_of_orderness_ms
    times = sorted(data.draw(st.lists(st.integers(0, 20 * the_rules.size_ms), min_size=count, max_size=count)))
    delays = data.draw(st.lists(st.integers(0, slack), min_size=count, max_size=count))
    values = data.draw(st.lists(st.floats(-1e3, 1e3), min_size=count, max_size=count))
    order = sorted(range(count), key=lambda k: times[k] + delays[k])
    found = []
    for arrival in (range(count), order):
        stream = Stream(
            np.array([times[k] for k in arrival], np.int64),
            np.array([values[k] for k in arrival]),
            np.array([[k % 3 for k in arrival]] * SCOPES, np.int64),
        )
        windows = WindowFold(the_rules, SCOPES)
        folded = stream.fold(windows, 0, count)
        assert not folded.is_late.any()
        found.append(dict(rows_of(folded.final) + rows_of(windows.advance(2**61)[0])))
    straight, shuffled = found
    assert straight.keys() == shuffled.keys()
    for identity, (number, late, _, total, squares, low, high) in straight.items():
        other = shuffled[identity]
        assert (number, late, low, high) == (other[0], other[1], other[5], other[6])
        assert np.allclose([total, squares], other[3:5], rtol=CLOSE, atol=1e-6)


def test_before_the_first_event_there_is_no_watermark() -> None:
    assert WindowFold(WindowRules(1000, 0, 0), 1).watermark_ms == NEVER
