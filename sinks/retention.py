"""How long the database keeps what, and how the community edition is told. Pure: statements, not their running."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Final, NamedTuple


class Edition(Enum):
    """What kind of database it is; the value is the licence that TimescaleDB names."""

    PLAIN = "plain"
    APACHE = "apache"
    COMMUNITY = "timescale"


class Ageing(NamedTuple):
    """A table whose rows grow old, the column that tells their age, and how its chunks are compressed.

    ``has_scope``: the index on that column begins with the scope.
    """

    table: str
    column: str
    segment_by: str = ""
    order_by: str = ""
    has_scope: bool = False


RAW: Final = (
    Ageing("readings", "event_time", "device_id", "event_time DESC, seq DESC"),
    Ageing("detections", "event_time", "camera_id", "event_time DESC, seq DESC"),
    Ageing("window_counts", "window_start", "scope, key", "window_start DESC", has_scope=True),
    Ageing("dead_letters", "broker_time"),
    Ageing("notices", "changed_at"),
)
ROLLUPS: Final = (Ageing("counts_1m", "bucket", has_scope=True), Ageing("counts_1h", "bucket", has_scope=True))

COMPRESS_AFTER: Final = timedelta(days=7)
"""Chunks that hardly change any more: a repeat or a late event may still be written into them, more slowly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retention:
    """How long rows are kept, by their own time; None is for ever. Alerts and devices are always kept."""

    raw: timedelta | None
    rollups: timedelta | None

    def kept(self) -> list[tuple[Ageing, timedelta]]:
        """Return the tables that do not keep their rows for ever."""
        ages = [(table, self.raw) for table in RAW] + [(table, self.rollups) for table in ROLLUPS]
        return [(table, age) for table, age in ages if age is not None]


def days(number: float) -> timedelta | None:
    """Return a setting in days as a time; 0 is for ever."""
    return timedelta(days=number) if number else None


def community_policies(retention: Retention, *, hypertables: frozenset[str], continuous: frozenset[str]) -> list[str]:
    """Return the statements that let TimescaleDB's own jobs compress, refresh and drop; they may be repeated."""
    kept = {table.table: age for table, age in retention.kept()}
    statements: list[str] = []
    for table in RAW:
        if table.segment_by and table.table in hypertables:
            how = f"segmentby = '{table.segment_by}', timescaledb.compress_orderby = '{table.order_by}'"
            statements += [
                f"ALTER TABLE {table.table} SET (timescaledb.compress, timescaledb.compress_{how})",
                f"SELECT add_compression_policy('{table.table}', {_interval(COMPRESS_AFTER)}, if_not_exists => true)",
            ]
    for name, end in (("counts_1m", timedelta(minutes=2)), ("counts_1h", timedelta(hours=1))):
        if name in continuous:  # never refreshed where the raw rows are gone already, or it would forget them too
            start = min(timedelta(days=30), kept.get("window_counts", timedelta(days=60)) / 2)
            statements.append(
                f"SELECT add_continuous_aggregate_policy('{name}', start_offset => {_interval(start)}, "
                f"end_offset => {_interval(end)}, schedule_interval => {_interval(end / 2)}, if_not_exists => true)"
            )
    for name in sorted(hypertables | continuous):
        statements.append(f"SELECT remove_retention_policy('{name}', if_exists => true)")
        if name in kept:
            statements.append(f"SELECT add_retention_policy('{name}', {_interval(kept[name])})")
    return statements


def _interval(span: timedelta) -> str:
    return f"INTERVAL '{round(span.total_seconds())} seconds'"
