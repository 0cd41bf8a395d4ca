"""The rules of one lane: which devices they match, their openings, and the alerts that a batch causes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fleetwatch import avro, topics
from streams import devices, drift_rules
from streams.alerts import Transition, to_alert
from streams.arrays import grown
from streams.explain import explain
from streams.inputs import CAMERA_TYPE, READINGS, Input
from streams.rules import AnomalyRule, CountRule, DriftRule, LevelRule, Openings, Rule, SilenceRule, SurgeRule
from streams.surge_rules import judge
from streams.windows import COUNT, NEVER, Entries, WindowRules

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from streams.batch import Accepted, Outputs
    from streams.names import Names
    from streams.scoring import Scores
    from streams.surges import Surges

    Send = Callable[["Change"], None]


class Change(NamedTuple):
    """A rule fires or resolves for a device row; ``at`` is the row of the batch that caused it (-1: the clock).

    ``limit`` is what was compared with, where the rule itself does not say it.
    """

    rule: Rule
    row: int
    at: int
    fires: bool
    started_ms: int
    ended_ms: int
    value: float
    limit: float | None = None
    why: str = ""


class Cause(NamedTuple):
    """What an alert names as its cause: the unit of the value, the device's site, time (ms), offset, and why."""

    unit: str
    site: int
    ingest_ms: int
    offset: int
    why: str = ""


class LaneRules:
    """Rules with their open alerts, and where and when each device was last heard, by device row."""

    def __init__(self, rules: tuple[Rule, ...], source: Input, partition: int, windows: WindowRules) -> None:
        cameras = source is not READINGS
        others = AnomalyRule | LevelRule | DriftRule if cameras else SurgeRule
        self.rules = tuple(rule for rule in rules if not isinstance(rule, others))
        self.source, self.partition, self.windows = source, partition, windows
        self.openings = {rule.name: Openings() for rule in self.rules}
        self.last_seen = np.zeros(0, np.int64)
        self.sites = np.zeros(0, np.int64)
        self.pauses = np.zeros((0, 2), np.float64)
        self._known = self._sited = 0
        self._matches = {rule.name: np.zeros(0, np.bool_) for rule in self.rules}
        self._timeouts: dict[str, NDArray[np.int64]] = {}

    def fold(self, names: Names, accepted: Accepted, out: Outputs) -> None:
        """Judge a batch and send the alerts that it causes, in the order of the events that cause them."""
        self._reserve(names)
        raw, batch, chosen = accepted.raw, accepted.batch, accepted.chosen
        rows, times, values = accepted.rows, accepted.times, accepted.values

        changes: list[Change] = []
        last_seen = self.last_seen.copy()
        heard = np.maximum(times, accepted.watermarks)  # an event of a clock that is behind is heard when it comes
        np.maximum.at(last_seen, rows, heard)
        pauses = self.pauses
        for rule in self.rules:
            openings = self.openings[rule.name]
            if isinstance(rule, CountRule):
                self._fold_counts(rule, accepted, changes.append)
            elif isinstance(rule, SilenceRule):
                pauses = self._fold_silence(rule, accepted, heard, changes.append)
            elif isinstance(rule, SurgeRule):
                changes += self._judge_surges(rule, names, accepted.surges)
            elif isinstance(rule, DriftRule):
                changes += self._judge_drifts(rule, accepted)
            elif accepted.scores is not None:
                on, off, quiet = _judge(rule, values, accepted.scores)
                on &= self._matches[rule.name][rows]
                for row, at, fires, started in openings.fold(rows, times, on, off, quiet).tolist():
                    changes.append(Change(rule, row, at, bool(fires), started, int(times[at]), float(values[at])))
        for change in sorted(changes, key=lambda change: change.at):
            event = int(chosen[change.at])
            unit = batch.text("unit", event) if self.source is READINGS else ""
            site = _last(rows, accepted.sites, self.sites, change)
            scores = accepted.scores if change.fires and isinstance(change.rule, AnomalyRule) else None
            why = explain(scores, change.at) if scores is not None else change.why
            self._send(names, change, Cause(unit, site, int(raw.times[event]), int(raw.offsets[event]), why), out)
        self.last_seen, self.pauses = last_seen, pauses
        self.sites[rows] = accepted.sites

    def advance(  # noqa: PLR0913, PLR0917  # what a lane's advance knows
        self,
        names: Names,
        final: Entries,
        closed: NDArray[np.int64],
        surges: tuple[Surges, Surges] | None,
        watermark_ms: int,
        source: tuple[int, int],
        out: Outputs,
    ) -> None:
        """Judge what the clock closed: counts of final windows, and devices of an idle partition.

        ``source`` is the time (ms) and the last offset that the alerts name.
        """
        self._reserve(names)

        def send(change: Change) -> None:
            self._send(names, change, Cause("", int(self.sites[change.row]), *source, change.why), out)

        for rule in self.rules:
            openings, matches = self.openings[rule.name], self._matches[rule.name]
            if isinstance(rule, CountRule):
                self._resolve_counts(rule, final, closed, send)
            elif isinstance(rule, SurgeRule):
                for change in self._judge_surges(rule, names, surges):
                    send(change)
            elif isinstance(rule, SilenceRule):
                timeout = devices.silence_timeouts(int(rule.after_seconds * 1000), rule.intervals, self.pauses)
                silent = matches & ~openings.is_open & (self.last_seen >= 0)
                silent &= self.last_seen + timeout <= watermark_ms // devices.TICK_MS * devices.TICK_MS
                for row in np.flatnonzero(silent).tolist():
                    openings.is_open[row] = True
                    openings.started[row] = self.last_seen[row] + timeout[row]
                    send(Change(rule, row, -1, True, int(openings.started[row]), 0, timeout[row] / 1000))

    def silent_for(self, names: Names, ttl_ms: int, watermark_ms: int) -> NDArray[np.bool_]:
        """Return which devices have sent nothing for so long."""
        self._reserve(names)
        last_seen = self.last_seen[: names.devices.count]
        return (last_seen >= 0) & (last_seen + ttl_ms <= watermark_ms)

    def give_up(
        self, names: Names, given_up: NDArray[np.bool_], ttl_ms: int, source: tuple[int, int], out: Outputs
    ) -> None:
        """Resolve the open alerts of devices whose state is given up."""
        why = f"was given up: nothing heard for {ttl_ms / 1000:g} s"
        for rule in self.rules:
            openings = self.openings[rule.name]
            for row in np.flatnonzero(openings.is_open[: len(given_up)] & given_up).tolist():
                ended = int(self.last_seen[row]) + ttl_ms
                change = Change(rule, row, -1, False, int(openings.started[row]), ended, ttl_ms / 1000)
                self._send(names, change, Cause("", int(self.sites[row]), *source, why), out)

    def _fold_silence(
        self, rule: SilenceRule, accepted: Accepted, heard: NDArray[np.int64], send: Send
    ) -> NDArray[np.float64]:
        """Judge a rule over a batch; return the devices' pauses after it.

        ``heard`` is when each event counts as heard: at its event time, or at the watermark if that is further. By
        event time alone a device whose clock is behind would be silent and speak again with each of its events.
        """
        openings = self.openings[rule.name]
        rows = accepted.rows
        pauses = self.pauses.copy()
        for row, at, is_silent, timeout in devices.fold_silence(
            rows,
            heard,
            accepted.watermarks,
            accepted.watermark_before,
            self._timeouts[rule.name],
            self.last_seen.copy(),
            openings.is_open,
            pauses,
            rule.intervals,
        ).tolist():
            if is_silent:
                openings.started[row] = _last_before(rows, heard, self.last_seen, row, at) + timeout
            started = int(openings.started[row])
            waited = timeout / 1000 if is_silent else rule.after_seconds
            send(Change(rule, row, at, bool(is_silent), started, int(heard[at]), waited))
        return pauses

    def _judge_surges(self, rule: SurgeRule, names: Names, surges: tuple[Surges, Surges] | None) -> list[Change]:
        if surges is None or len(surges[0]) == 0:
            return []
        turns = judge(rule, names, self.openings[rule.name], self._matches[rule.name], surges)
        return [Change(rule, *turn) for turn in turns]

    def _judge_drifts(self, rule: DriftRule, accepted: Accepted) -> list[Change]:
        if accepted.scores is None:
            return []
        rows, times, scores = accepted.rows, accepted.times, accepted.scores
        matches = self._matches[rule.name][rows]
        drifted, is_back = scores.unusual.restarts & matches, scores.is_back & matches
        return [
            Change(rule, row, at, fires, started, int(times[at]), float(accepted.values[at]))
            for row, at, fires, started in drift_rules.judge(rows, times, drifted, is_back, self.openings[rule.name])
        ]

    def _fold_counts(self, rule: CountRule, accepted: Accepted, send: Send) -> None:
        """Interleave "the count was reached" and "a window closed" in the order of the events."""
        openings, folded = self.openings[rule.name], accepted.folded
        reached = (folded.running == rule.at_least) & self._matches[rule.name][accepted.rows]
        steps = [(at, 1, at) for at in np.flatnonzero(reached).tolist()]
        steps += [(at, 0, number) for number, (at, _) in enumerate(folded.closed.tolist())]
        for at, is_reached, number in sorted(steps):
            if not is_reached:
                self._resolve_counts(rule, folded.final, folded.closed[number : number + 1], send)
                continue
            row, window = int(accepted.rows[at]), int(folded.window[at])
            openings.last[row] = max(openings.last[row], window) if openings.is_open[row] else window
            if not openings.is_open[row]:
                openings.is_open[row], openings.started[row] = True, accepted.times[at]
                send(Change(rule, row, at, True, int(accepted.times[at]), 0, float(rule.at_least)))

    def _resolve_counts(self, rule: CountRule, final: Entries, closed: NDArray[np.int64], send: Send) -> None:
        openings = self.openings[rule.name]
        for at, window in closed.tolist():
            mine = (final.window == window) & (final.scope == 0)
            counts = np.zeros(len(openings.is_open), np.int64)
            counts[final.key[mine]] = final.ints[mine, COUNT]
            still = openings.is_open & (counts >= rule.at_least)
            openings.last[still] = np.maximum(openings.last[still], window)
            for row in np.flatnonzero(openings.is_open & ~still & (openings.last < window)).tolist():
                openings.is_open[row] = False
                started, ended = int(openings.started[row]), window * self.windows.step_ms
                send(Change(rule, row, at, False, started, ended, float(counts[row])))

    def _send(self, names: Names, change: Change, cause: Cause, out: Outputs) -> None:
        key = names.devices.name(change.row)
        transition = Transition(
            rule=change.rule,
            device=key.decode(),
            site=names.sites.name(cause.site).decode(),
            fires=change.fires,
            started_ms=change.started_ms,
            ended_ms=change.ended_ms,
            value=change.value,
            limit=change.limit,
            unit=cause.unit,
            ingest_ms=cause.ingest_ms,
            topic=self.source.topic,
            partition=self.partition,
            offset=cause.offset,
            why=cause.why,
        )
        out.add(topics.ALERTS, [key], [avro.encode(to_alert(transition, self.windows))])
        out.count("alerts_fired" if change.fires else "alerts_resolved", 1)

    def _reserve(self, names: Names) -> None:
        count = names.devices.count
        if count == self._known:
            return
        self.last_seen = grown(self.last_seen, count, -1)
        self.pauses = grown(self.pauses, len(self.last_seen))
        self.sites = grown(self.sites, count)
        self.sites[self._sited : count] = names.site_of[self._sited : count]
        self._sited = count
        for rule in self.rules:
            self.openings[rule.name].reserve(len(self.last_seen))
            matches = grown(self._matches[rule.name], len(self.last_seen))
            matches[self._known : count] = [self._fits(rule, names, row) for row in range(self._known, count)]
            self._matches[rule.name] = matches
            if isinstance(rule, SilenceRule):
                self._timeouts[rule.name] = np.where(matches, int(rule.after_seconds * 1000), 0)
        self._known = count

    def _fits(self, rule: Rule, names: Names, row: int) -> bool:
        kind = names.kinds.name(int(names.kind_of[row])).decode() if self.source is READINGS else CAMERA_TYPE
        site = names.sites.name(int(names.site_of[row])).decode()
        return rule.match.fits(names.devices.name(row).decode(), kind, site)

    def snapshot(self) -> dict[str, Any]:
        """Return what ``restore`` needs; openings by the rule's name, so that rules may come and go."""
        return {
            "last_seen": self.last_seen[: self._sited],
            "sites": self.sites[: self._sited],
            "pauses": self.pauses[: self._sited],
            "openings": {name: openings.snapshot(self._sited) for name, openings in self.openings.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a snapshot; which devices match is found anew."""
        self.last_seen, self.sites = state["last_seen"].copy(), state["sites"].copy()
        self._sited = len(self.sites)
        self.pauses = grown(state["pauses"][: self._sited].copy(), self._sited)
        for name, openings in state.get("openings", {}).items():
            if name in self.openings:
                self.openings[name] = Openings.restore(openings, self._sited)


def _judge(rule: Rule, values: NDArray[np.float64], scores: Scores) -> tuple[NDArray[np.bool_], NDArray[np.bool_], int]:
    """Return where a rule is on, where it may go off, and how long it must have been quiet (ms)."""
    if isinstance(rule, AnomalyRule):
        return scores.is_anomaly, ~scores.is_anomaly, int(rule.quiet_seconds * 1000)
    assert isinstance(rule, LevelRule)
    if rule.above is not None:
        return values >= rule.above, values <= rule.clear, 0
    assert rule.below is not None
    return values <= rule.below, values >= rule.clear, 0


def _last(rows: NDArray[np.int64], column: NDArray[np.int64], before: NDArray[np.int64], change: Change) -> int:
    """Return a device's value of a column as of the event that caused a change."""
    mine = np.flatnonzero(rows[: change.at + 1] == change.row)
    return int(column[mine[-1]] if len(mine) else before[change.row])


def _last_before(
    rows: NDArray[np.int64], times: NDArray[np.int64], before: NDArray[np.int64], row: int, at: int
) -> int:
    """Return when a device was last heard before a row of the batch."""
    mine = times[:at][rows[:at] == row]
    return int(max(mine.max(initial=NEVER), before[row]))
