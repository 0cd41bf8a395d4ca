"""What a change did to the alerts: two results of the same recording, alert by alert. Pure, but for reading folders."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.records import Action, AlertState, to_millis

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

Kind = Literal["appeared", "vanished", "earlier", "later", "severity", "ended"]
KINDS: Final[tuple[Kind, ...]] = ("appeared", "vanished", "earlier", "later", "severity", "ended")


@dataclass(frozen=True)
class Opening:
    """One alert from its firing to its end (None: it was still open). Times are event times, milliseconds."""

    alert_id: str
    rule: str
    device_id: str
    severity: str
    started_ms: int
    ended_ms: int | None
    value: float

    @property
    def identity(self) -> tuple[str, str]:
        """What the same alert of another run has in common with it, whenever it fired."""
        return self.rule, self.device_id


@dataclass(frozen=True)
class Truth:
    """A fault that is known: of which device, from when to when (milliseconds)."""

    fault_id: str
    device_id: str
    started_ms: int
    ended_ms: int


@dataclass(frozen=True)
class Results:
    """What a folder of results says. ``feedback``: alert id -> whether people called it real."""

    name: str
    alerts: tuple[Opening, ...]
    truths: tuple[Truth, ...]
    feedback: Mapping[str, bool]


@dataclass(frozen=True)
class Difference:
    """One alert that is not the same in both; ``left`` is None if it appeared, ``right`` if it vanished."""

    kind: Kind
    left: Opening | None
    right: Opening | None

    @property
    def shown(self) -> Opening:
        """The newer of the two that there is."""
        found = self.right or self.left
        assert found is not None
        return found

    @property
    def shift_ms(self) -> int:
        """How much later it is than it was."""
        return self.right.started_ms - self.left.started_ms if self.left and self.right else 0


@dataclass(frozen=True)
class Quality:
    """How alerts fit what is known. A number is None where nothing is known that it could be made from."""

    alerts: int
    faults: int
    faults_found: int
    alerts_on_faults: int
    precision: float | None
    recall: float | None
    said_real: int
    said_false: int
    precision_by_feedback: float | None


@dataclass(frozen=True)
class Comparison:
    """Two results and how they differ."""

    left: Results
    right: Results
    same: int
    differences: tuple[Difference, ...]
    by_rule: dict[str, tuple[int, int]]
    by_device: dict[str, tuple[int, int]]
    quality: tuple[Quality, Quality]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        kinds = Counter(difference.kind for difference in self.differences)
        return {
            "left": self.left.name,
            "right": self.right.name,
            "alerts": [len(self.left.alerts), len(self.right.alerts)],
            "same": self.same,
            "differences": {kind: kinds.get(kind, 0) for kind in KINDS},
            "by_rule": {name: list(counts) for name, counts in self.by_rule.items()},
            "by_device": {name: list(counts) for name, counts in self.by_device.items()},
            "quality": [asdict(quality) for quality in self.quality],
            "details": [
                {
                    "kind": difference.kind,
                    "left": None if difference.left is None else asdict(difference.left),
                    "right": None if difference.right is None else asdict(difference.right),
                }
                for difference in self.differences
            ],
        }


def load(folder: Path) -> Results:
    """Read a folder of results.

    Raises:
        EnvironmentProblemError: it is none, or damaged; the text names file and line.

    """
    if not (folder / "results.json").is_file():
        raise EnvironmentProblemError(f"{folder} holds no results: it has no results.json")
    truths = (
        Truth(item["fault_id"], item["device_id"], _millis(item["started_at"]), _millis(item["ended_at"]))
        for item in _lines(folder / "truth.jsonl", ("fault_id", "device_id", "started_at", "ended_at"))
    )
    said = _lines(folder / "feedback.jsonl", ("alert_id", "action"))
    feedback = {item["alert_id"]: item["action"] == Action.FEEDBACK_REAL.value for item in said}
    needed = ("alert_id", "rule", "device_id", "severity", "state", "started_at", "ended_at", "value")
    alerts = openings(_lines(folder / "alerts.jsonl", needed))
    return Results(str(folder), tuple(alerts), tuple(truths), feedback)


def openings(changes: Iterable[Mapping[str, Any]]) -> list[Opening]:
    """Join what fired with what resolved it, in the order of their starts."""
    found: dict[str, Opening] = {}
    for change in changes:
        is_firing = change["state"] == AlertState.FIRING.value
        known = found.get(change["alert_id"])
        found[change["alert_id"]] = Opening(
            alert_id=change["alert_id"],
            rule=change["rule"],
            device_id=change["device_id"],
            severity=change["severity"],
            started_ms=_millis(change["started_at"]),
            ended_ms=None if is_firing or change["ended_at"] is None else _millis(change["ended_at"]),
            value=float(change["value"] if is_firing or known is None else known.value),
        )
    return sorted(found.values(), key=lambda one: (one.started_ms, one.rule, one.device_id))


def compare(left: Results, right: Results, *, within_ms: int = 60_000, match_ms: int = 0) -> Comparison:
    """Compare two results.

    Alerts of one rule and device are the same when they began at the same time (their ids say so); of the others, the
    nearest within ``within_ms`` is the same alert earlier or later. An end counts as another one when it is more than
    ``match_ms`` away.
    """
    differences: list[Difference] = []
    same = 0
    for one, other in _pairs(left.alerts, right.alerts, within_ms):
        found = list(_differences(one, other, match_ms))
        differences += found
        same += not found
    differences.sort(key=lambda d: (d.shown.started_ms, d.shown.rule, d.shown.device_id, d.kind))
    truths = left.truths or right.truths
    feedback = {**left.feedback, **right.feedback}
    return Comparison(
        left=left,
        right=right,
        same=same,
        differences=tuple(differences),
        by_rule=_counts(left.alerts, right.alerts, "rule"),
        by_device=_counts(left.alerts, right.alerts, "device_id"),
        quality=(quality_of(left.alerts, truths, feedback), quality_of(right.alerts, truths, feedback)),
    )


def _differences(one: Opening | None, other: Opening | None, match_ms: int) -> Iterable[Difference]:
    if one is None or other is None:
        yield Difference("appeared" if one is None else "vanished", one, other)
        return
    if other.started_ms != one.started_ms:
        yield Difference("earlier" if other.started_ms < one.started_ms else "later", one, other)
    if other.severity != one.severity:
        yield Difference("severity", one, other)
    ends = (one.ended_ms, other.ended_ms)
    if ends[0] != ends[1] and (ends[0] is None or ends[1] is None or abs(ends[0] - ends[1]) > match_ms):
        yield Difference("ended", one, other)


def _pairs(
    left: Sequence[Opening], right: Sequence[Opening], within_ms: int
) -> Iterable[tuple[Opening | None, Opening | None]]:
    """Pair equal ids first, then the nearest of one rule and device, nearest pairs first."""
    by_id = {one.alert_id: one for one in right}
    paired = {one.alert_id for one in left if one.alert_id in by_id}
    for one in left:
        if one.alert_id in paired:
            yield one, by_id[one.alert_id]
    rest: dict[tuple[str, str], tuple[list[Opening], list[Opening]]] = defaultdict(lambda: ([], []))
    for side, alerts in enumerate((left, right)):
        for one in alerts:
            if one.alert_id not in paired:
                rest[one.identity][side].append(one)
    for lefts, rights in rest.values():
        near = sorted(
            (abs(one.started_ms - other.started_ms), a, b)
            for a, one in enumerate(lefts)
            for b, other in enumerate(rights)
            if abs(one.started_ms - other.started_ms) <= within_ms
        )
        of_left: dict[int, int] = {}
        for _, a, b in near:
            if a not in of_left and b not in of_left.values():
                of_left[a] = b
        yield from ((one, rights[of_left[a]] if a in of_left else None) for a, one in enumerate(lefts))
        yield from ((None, other) for b, other in enumerate(rights) if b not in of_left.values())


def _counts(left: Sequence[Opening], right: Sequence[Opening], name: str) -> dict[str, tuple[int, int]]:
    before = Counter(getattr(one, name) for one in left)
    after = Counter(getattr(one, name) for one in right)
    return {key: (before[key], after[key]) for key in sorted(before | after)}


def quality_of(alerts: Sequence[Opening], truths: Sequence[Truth], feedback: Mapping[str, bool]) -> Quality:
    """Compare alerts with what is known: an alert is on a fault of its device when they overlap in event time.

    Precision is the share of alerts that are on a fault, recall the share of faults that an alert is on.
    """
    by_device: dict[str, list[Truth]] = defaultdict(list)
    for truth in truths:
        by_device[truth.device_id].append(truth)
    found: set[str] = set()
    on_faults = 0
    for alert in alerts:
        hit = [truth.fault_id for truth in by_device[alert.device_id] if _overlap(alert, truth)]
        found.update(hit)
        on_faults += bool(hit)
    said = [feedback[alert.alert_id] for alert in alerts if alert.alert_id in feedback]
    return Quality(
        alerts=len(alerts),
        faults=len(truths),
        faults_found=len(found),
        alerts_on_faults=on_faults,
        precision=on_faults / len(alerts) if truths and alerts else None,
        recall=len(found) / len(truths) if truths else None,
        said_real=sum(said),
        said_false=len(said) - sum(said),
        precision_by_feedback=sum(said) / len(said) if said else None,
    )


def _overlap(alert: Opening, truth: Truth) -> bool:
    return alert.started_ms <= truth.ended_ms and (alert.ended_ms is None or alert.ended_ms >= truth.started_ms)


def _millis(text: str) -> int:
    return to_millis(datetime.fromisoformat(text))


def _lines(path: Path, needed: tuple[str, ...]) -> Iterable[dict[str, Any]]:
    """Yield the objects of a file of JSON lines; a file that is not there has none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise EnvironmentProblemError(f"cannot read {path}: {error}") from None
    for number, line in enumerate(lines, 1):
        try:
            item = json.loads(line)
            missing = [name for name in needed if name not in item]
        except (ValueError, TypeError):
            raise EnvironmentProblemError(f"{path}, line {number}: no JSON object") from None
        if missing:
            raise EnvironmentProblemError(f"{path}, line {number}: it has no {missing[0]}")
        yield item
