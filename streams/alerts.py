"""Transitions of rules to Alert records: identities, evidence and the one line for people."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleetwatch.records import Alert, AlertState, RuleKind, from_millis
from streams.explain import readable
from streams.policy import EVIDENCE_THRESHOLD
from streams.rules import AnomalyRule, CountRule, DriftRule, LevelRule, Rule, SilenceRule, SurgeRule, kind_of

if TYPE_CHECKING:
    from streams.windows import WindowRules


@dataclass(frozen=True)
class Transition:
    """One change of one rule for one device. Times are event times in milliseconds; ``value`` is what was compared.

    ``limit`` is what it was compared with, if the rule does not say it. ``why`` is what the detectors say to it, or why
    it ended if not by itself; else empty.
    """

    rule: Rule
    device: str
    site: str
    fires: bool
    started_ms: int
    ended_ms: int
    value: float
    unit: str
    ingest_ms: int
    topic: str
    partition: int
    offset: int
    why: str = ""
    limit: float | None = None


def digest(*parts: str) -> str:
    """Return a short stable hash of the parts."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:24]


def to_alert(change: Transition, windows: WindowRules) -> Alert:
    """Build the record. The id depends on rule, device and start only, so that a repeat is the same alert."""
    rule = change.rule
    return Alert(
        alert_id=digest(rule.name, change.device, str(change.started_ms)),
        rule=rule.name,
        kind=kind_of(rule),
        fingerprint=digest(rule.name, change.device),
        device_id=change.device,
        site=change.site,
        severity=rule.level_of_severity,
        state=AlertState.FIRING if change.fires else AlertState.RESOLVED,
        started_at=from_millis(change.started_ms),
        ended_at=None if change.fires else from_millis(change.ended_ms),
        value=change.value,
        threshold=threshold_of(rule) if change.limit is None else change.limit,
        summary=summarise(change, windows),
        ingest_time=from_millis(change.ingest_ms),
        source_topic=change.topic,
        source_partition=change.partition,
        source_offset=change.offset,
    )


def threshold_of(rule: Rule) -> float:
    """Return what a rule compares with."""
    match rule:
        case LevelRule():
            return rule.limit
        case CountRule():
            return float(rule.at_least)
        case SilenceRule():
            return rule.after_seconds
        case DriftRule():
            return 0.0  # none that a reading could be held against
        case AnomalyRule() | SurgeRule():
            return float(1.0 - 10.0**-EVIDENCE_THRESHOLD)


def summarise(change: Transition, windows: WindowRules) -> str:
    """Say in one line what happened."""
    rule, device = change.rule, change.device
    number = f"{readable(change.value)}{' ' + change.unit if change.unit else ''}"
    if not change.fires:
        if change.why:
            return f"{device} {change.why}"
        lasted = max(0.0, (change.ended_ms - change.started_ms) / 1000)
        again = {
            RuleKind.ANOMALY: "looks normal again",
            RuleKind.LEVEL: f"is back at {number}",
            RuleKind.COUNT: "is back to fewer detections",
            RuleKind.SILENCE: "speaks again",
            RuleKind.SURGE: "has usual counts again",
            RuleKind.DRIFT: "has learned anew what is usual",
        }[kind_of(rule)]
        return f"{device} {again} after {lasted:.0f} s"
    match rule:
        case LevelRule():
            side = "above" if rule.above is not None else "below"
            text = f"is {side} {rule.limit:g}: {number}"
        case CountRule():
            text = f"has {change.value:.0f} events within {windows.size_ms / 1000:g} s"
        case SilenceRule():
            text = f"has sent nothing for {change.value:g} s"
        case SurgeRule():
            how = "many" if rule.direction == "above" else "few"
            text = f"has unusually {how} detections: {change.value:.0f} within {windows.size_ms / 1000:g} s"
        case DriftRule():
            text = f"has changed for good and learns anew what is usual: {number}"
        case AnomalyRule():
            text = f"behaves unusually: {number}"
    return f"{device} {text}{f' ({change.why})' if change.why else ''}"
