"""How long rows are kept, and what the community edition is told about it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sinks.retention import RAW, ROLLUPS, Retention, community_policies, days

ALL = frozenset(table.table for table in (*RAW, *ROLLUPS))
CONTINUOUS = frozenset({"counts_1m", "counts_1h"})
HYPERTABLES = frozenset({"readings", "detections", "window_counts"})


@pytest.mark.parametrize(("number", "age"), [(0, None), (0.5, timedelta(hours=12)), (90, timedelta(days=90))])
def test_no_days_are_for_ever(number: float, age: timedelta | None):
    assert days(number) == age


def test_what_is_kept_for_ever_is_left_out():
    assert Retention(raw=None, rollups=None).kept() == []
    ages = {table.table: age.days for table, age in Retention(raw=days(90), rollups=days(730)).kept()}
    assert ages == {name: 730 if name in CONTINUOUS else 90 for name in ALL}


def test_a_changed_retention_replaces_the_old_one():
    statements = community_policies(
        Retention(raw=days(1), rollups=None), hypertables=HYPERTABLES, continuous=CONTINUOUS
    )
    for name in HYPERTABLES:
        at = statements.index(f"SELECT remove_retention_policy('{name}', if_exists => true)")
        assert statements[at + 1] == f"SELECT add_retention_policy('{name}', INTERVAL '86400 seconds')"
    assert "SELECT remove_retention_policy('counts_1m', if_exists => true)" in statements
    assert not any("add_retention_policy('counts" in statement for statement in statements)


def test_minutes_are_not_refreshed_where_their_windows_are_gone():
    """Or dropping the windows would empty the minutes too."""
    for age in (1, 10, 90):
        statements = community_policies(
            Retention(raw=days(age), rollups=None), hypertables=HYPERTABLES, continuous=CONTINUOUS
        )
        [refresh] = [
            statement for statement in statements if "add_continuous_aggregate_policy('counts_1m'" in statement
        ]
        start = int(refresh.split("start_offset => INTERVAL '")[1].split(" ")[0])
        assert start < age * 86_400


def test_tables_are_not_refreshed():
    """Made under the apache licence, rollups stay tables that the sink fills."""
    statements = community_policies(Retention(raw=None, rollups=None), hypertables=ALL, continuous=frozenset())
    assert not any("continuous" in statement for statement in statements)
