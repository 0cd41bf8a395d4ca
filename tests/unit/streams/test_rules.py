"""Rule files, matching, and the fold that opens and closes alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.records import RuleKind, Severity
from streams.rules import (
    AnomalyRule,
    CountRule,
    DriftRule,
    LevelRule,
    Match,
    Openings,
    SilenceRule,
    SurgeRule,
    kind_of,
    load_rules,
)

if TYPE_CHECKING:
    from pathlib import Path


def load(folder: Path, text: str | bytes) -> tuple[object, ...]:
    path = folder / "rules.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_rules(path)


def test_the_shipped_rules_load() -> None:
    """One of each kind; 200 or more detections in a window are a crowd."""
    rules = {rule.name: rule for rule in load_rules()}
    kinds = {AnomalyRule, LevelRule, CountRule, SilenceRule, SurgeRule, DriftRule}
    assert {type(rule) for rule in rules.values()} == kinds
    crowd = rules["crowd"]
    assert isinstance(crowd, CountRule)
    assert crowd.at_least == 200
    assert crowd.match.fits("cam-3", "camera", "anywhere")
    assert not crowd.match.fits("press-3", "temperature", "anywhere")


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    (rule,) = load(
        tmp_path,
        """
        rules:
          - {name: cold-store, kind: level, severity: critical, match: {site: [north]}, below: -5, clear: 0}
        """,
    )
    assert isinstance(rule, LevelRule)
    assert (rule.limit, rule.clear, rule.level_of_severity, kind_of(rule)) == (
        -5.0,
        0.0,
        Severity.CRITICAL,
        RuleKind.LEVEL,
    )


def test_a_limit_of_zero_is_a_limit(tmp_path: Path) -> None:
    above, below = load(
        tmp_path,
        """
        rules:
          - {name: thaw, kind: level, above: 0, clear: -1}
          - {name: freeze, kind: level, below: 0, clear: 1}
        """,
    )
    assert isinstance(above, LevelRule)
    assert isinstance(below, LevelRule)
    assert (above.limit, below.limit) == (0.0, 0.0)


WRONG = {
    "unknown field": ("{name: hot, kind: level, above: 1, clear: 0, colour: red}", ("hot", "colour")),
    "missing field": ("{name: hot, kind: level, above: 1}", ("hot", "clear")),
    "not a number": ("{name: hot, kind: level, above: warm, clear: 0}", ("hot", "above")),
    "both sides": ("{name: hot, kind: level, above: 1, below: 0, clear: 1}", ("hot", "either above or below")),
    "no side": ("{name: hot, kind: level, clear: 1}", ("hot", "either above or below")),
    "clear beyond above": ("{name: hot, kind: level, above: 1, clear: 2}", ("hot", "clear must not be higher")),
    "clear beyond below": ("{name: hot, kind: level, below: 1, clear: 0}", ("hot", "clear must not be lower")),
    "infinite limit": ("{name: hot, kind: level, above: .inf, clear: 0}", ("hot", "above")),
    "limit that is no number": ("{name: hot, kind: level, above: .nan, clear: 0}", ("hot", "above")),
    "endless silence": ("{name: quiet, kind: silence, after_seconds: .inf}", ("quiet", "after_seconds")),
    "silence longer than any": ("{name: quiet, kind: silence, after_seconds: 1.0e+300}", ("quiet", "after_seconds")),
    "silence shorter than any": ("{name: quiet, kind: silence, after_seconds: 0.0001}", ("quiet", "after_seconds")),
    "no silence": ("{name: quiet, kind: silence, after_seconds: 0}", ("quiet", "after_seconds")),
    "negative quiet": ("{name: odd, kind: anomaly, quiet_seconds: -1}", ("odd", "quiet_seconds")),
    "endless quiet": ("{name: odd, kind: anomaly, quiet_seconds: .inf}", ("odd", "quiet_seconds")),
    "count of nothing": ("{name: crowd, kind: count, at_least: 0}", ("crowd", "at_least")),
    "unknown kind": ("{name: hot, kind: heat}", ("hot", "kind")),
    "no kind": ("{name: hot}", ("hot", "kind")),
    "unknown severity": ("{name: odd, kind: anomaly, severity: loud}", ("odd", "severity")),
    "name with a blank": ("{name: too hot, kind: anomaly}", ("too hot", "name")),
    "no name": ("{kind: anomaly}", ("rules.1", "name")),
    "match on nothing known": ("{name: odd, kind: anomaly, match: {colour: [red]}}", ("odd", "match.colour")),
    "site that is no list": ("{name: odd, kind: anomaly, match: {site: north}}", ("odd", "match.site")),
    "not a mapping": ("hot", ("rules.1",)),
    "same name twice": ("{name: first, kind: anomaly}", ("first", "two rules")),
}


@pytest.mark.parametrize(("rule", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_rule_is_one_line_with_file_rule_and_field(tmp_path: Path, rule: str, words: tuple[str, ...]) -> None:
    text = f"rules:\n  - {{name: first, kind: anomaly}}\n  - {rule}\n"
    with pytest.raises(EnvironmentProblemError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message
    for word in ("rules.yaml", *words):
        assert word in message
    assert ": :" not in message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rules:\n",
        "rule: []\n",
        "- 1\n",
        "rules: [\n",
        "rules: {a: b: c}\n",
        "a: !!python/object:os.system {}\n",
        "rules: 2020-13-45\n",
        b"\xff\xfe rules: \x80",
        b"rules: \x00",
    ],
)
def test_what_is_no_rules_file_is_one_line(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(EnvironmentProblemError, match=r"rules\.yaml") as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblemError, match=r"cannot read the rules .*nowhere.yaml: No such file"):
        load_rules(tmp_path / "nowhere.yaml")
    with pytest.raises(EnvironmentProblemError, match="Is a directory"):
        load_rules(tmp_path)


@pytest.mark.parametrize(
    ("match", "device", "sensor_type", "site", "fits"),
    [
        (Match(), "any", "any", "any", True),  # no condition: everything
        (Match(device="press-*"), "press-1", "t", "s", True),
        (Match(device="press-*"), "Press-1", "t", "s", False),  # case counts
        (Match(device="press-?"), "press-12", "t", "s", False),
        (Match(device="press-[13]"), "press-3", "t", "s", True),
        (Match(sensor_type=("a", "b")), "d", "b", "s", True),  # one of a list
        (Match(sensor_type=("a", "b")), "d", "ab", "s", False),
        (Match(sensor_type=()), "d", "a", "s", False),  # an empty list fits nothing
        (Match(site=("north",)), "d", "a", "north", True),
        (Match(device="d*", sensor_type=("a",), site=("north",)), "d1", "a", "south", False),  # all must hold
        (Match(device="d*", sensor_type=("a",), site=("north",)), "d1", "a", "north", True),
    ],
)
def test_match(match: Match, device: str, sensor_type: str, site: str, fits: bool) -> None:
    assert match.fits(device, sensor_type, site) is fits


def fold(openings: Openings, *events: tuple[int, str], quiet_ms: int = 0, row: int = 0) -> list[tuple[int, ...]]:
    """Events are (time, what): ``+`` on, ``-`` off, ``.`` between the two. Returns (batch row, fires, started)."""
    found = openings.fold(
        np.full(len(events), row, np.int64),
        np.array([time for time, _ in events], np.int64),
        np.array([what == "+" for _, what in events]),
        np.array([what == "-" for _, what in events]),
        quiet_ms,
    )
    return [tuple(change) for change in found[:, 1:].tolist()]


def test_between_the_two_limits_nothing_changes() -> None:
    """+ fires once, . and + keep it, - resolves once, . keeps it closed."""
    found = fold(Openings(1), *zip(range(10, 20), ".+.+.--.+-", strict=True))
    assert found == [(1, 1, 11), (5, 0, 11), (8, 1, 18), (9, 0, 18)]


def test_quiet_must_last() -> None:
    """Every + starts the quiet time again; the - that is late enough resolves."""
    found = fold(Openings(1), (0, "+"), (4, "-"), (9, "-"), (9, "+"), (18, "-"), (19, "-"), (40, "-"), quiet_ms=10)
    assert found == [(0, 1, 0), (5, 0, 0)]


def test_an_older_event_does_not_resolve() -> None:
    """It says how things were before the alert."""
    assert fold(Openings(1), (10, "+"), (9, "-"), (10, "-")) == [(0, 1, 10), (2, 0, 10)]
    assert fold(Openings(1), (10, "+"), (4, "+"), (9, "-"), (11, "-")) == [(0, 1, 10), (3, 0, 10)]


def test_devices_have_their_own_alerts_and_keep_them_when_room_is_made() -> None:
    openings = Openings(1)
    assert fold(openings, (5, "+")) == [(0, 1, 5)]
    openings.reserve(3)
    openings.reserve(2)
    assert fold(openings, (6, "-"), row=2) == []
    assert fold(openings, (7, "+"), row=2) == [(0, 1, 7)]
    assert fold(openings, (8, "-")) == [(0, 0, 5)]
    assert openings.is_open.tolist() == [False, False, True]


steps = st.lists(st.tuples(st.integers(0, 30), st.sampled_from("+-.")), max_size=40)


@settings(max_examples=80, deadline=None)
@given(steps, st.integers(0, 40), st.integers(0, 12))
def test_firing_and_resolved_alternate_and_a_cut_or_a_snapshot_changes_nothing(
    events: list[tuple[int, str]], cut: int, quiet_ms: int
) -> None:
    whole = fold(Openings(1), *events, quiet_ms=quiet_ms)
    assert [fires for _, fires, _ in whole] == [1 - k % 2 for k in range(len(whole))]
    first = Openings(1)
    before = fold(first, *events[:cut], quiet_ms=quiet_ms)
    after = fold(Openings.restore(first.snapshot(1), 1), *events[cut:], quiet_ms=quiet_ms)
    assert before + [(at + min(cut, len(events)), fires, started) for at, fires, started in after] == whole
