"""Devices that fall silent, and counts rolled up to minutes and hours.

The rollups are continuous aggregates where the licence of TimescaleDB has them (community), else tables that the
database sink fills from the same final windows: same names, same columns, same rows.
"""

from alembic import op
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from fleetwatch.logs import get_logger

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

log = get_logger(__name__)

# Without the index on last_seen an update of a device touches no index (a heap-only tuple): every batch updates most.
DEVICES = """
DROP INDEX devices_last_seen;
ALTER TABLE devices ADD COLUMN heard_at timestamptz NOT NULL DEFAULT to_timestamp(0);
ALTER TABLE devices ADD COLUMN inactive_since timestamptz;
"""

DEVICES_BACK = """
ALTER TABLE devices DROP COLUMN inactive_since;
ALTER TABLE devices DROP COLUMN heard_at;
CREATE INDEX devices_last_seen ON devices (last_seen DESC);
"""

GROUPED = (
    'scope, key, source_topic, source_partition, sum({count})::bigint AS "count", sum("sum") AS "sum", '
    'sum(sum_of_squares) AS sum_of_squares, min("min") AS "min", max("max") AS "max", '
    "sum(late_count)::bigint AS late_count"
)

ROLLUPS = (
    ("counts_1m", "window_counts", "1 minute", "window_start", "WHERE is_final", "7 days"),
    ("counts_1h", "counts_1m", "1 hour", "bucket", "", "90 days"),
)


def upgrade() -> None:
    """Change the devices, make the rollups and fill them with what is there."""
    _run(DEVICES)
    is_continuous = _licence() == "timescale" and _make_continuous()
    if not is_continuous:
        for name, source, width, time, where, chunk in ROLLUPS:
            _make_table(name, chunk)
            op.execute(
                f"INSERT INTO {name} SELECT date_bin(INTERVAL '{width}', {time}, TIMESTAMPTZ '2000-01-01 00:00Z'), "  # noqa: S608  # names of our own
                f"{GROUPED.format(count=_quoted('count'))} FROM {source} {where} GROUP BY 1, 2, 3, 4, 5"
            )
    log.info("rollups_made", continuous=is_continuous)


def downgrade() -> None:
    """Drop the rollups and what was added to the devices."""
    for name, *_ in reversed(ROLLUPS):
        kind = op.get_bind().execute(text("SELECT relkind FROM pg_class WHERE oid = to_regclass(:n)"), {"n": name})
        op.execute(f"DROP {'TABLE' if kind.scalar_one() == 'r' else 'MATERIALIZED VIEW'} {name}")
    _run(DEVICES_BACK)


def _licence() -> str:
    """Return 'timescale' (community), 'apache', or nothing where the extension is not."""
    found = op.get_bind().execute(text("SELECT current_setting('timescaledb.license', true)")).scalar()
    has_hypertables = op.get_bind().execute(text("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")).first()
    return str(found or "") if has_hypertables else ""


def _make_continuous() -> bool:
    """Make continuous aggregates. Where that fails (an older version), nothing is left of it, and tables do."""
    connection = op.get_bind()
    try:
        with connection.begin_nested():
            for name, source, width, time, where, _ in ROLLUPS:
                op.execute(
                    f"CREATE MATERIALIZED VIEW {name} "  # noqa: S608  # names of our own
                    "WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS "
                    f"SELECT time_bucket(INTERVAL '{width}', {time}) AS bucket, "
                    f"{GROUPED.format(count=_quoted('count'))} FROM {source} {where} "
                    f"GROUP BY 1, scope, key, source_topic, source_partition WITH NO DATA"
                )
    except DBAPIError as error:
        log.warning("no_continuous_aggregates", why=str(error.orig).splitlines()[0])
        return False
    return True


def _make_table(name: str, chunk: str) -> None:
    op.execute(
        f"CREATE TABLE {name} (bucket timestamptz NOT NULL, scope text NOT NULL, key text NOT NULL, "
        "source_topic text NOT NULL, source_partition integer NOT NULL, "
        '"count" bigint NOT NULL, "sum" double precision NOT NULL, sum_of_squares double precision NOT NULL, '
        '"min" double precision NOT NULL, "max" double precision NOT NULL, late_count bigint NOT NULL, '
        "PRIMARY KEY (scope, key, bucket, source_topic, source_partition)) WITH (fillfactor = 70)"
    )
    if _licence():
        op.execute(
            f"SELECT create_hypertable('{name}', 'bucket', chunk_time_interval => INTERVAL '{chunk}', "
            "create_default_indexes => false)"
        )
    op.execute(f"CREATE INDEX {name}_scope_bucket ON {name} (scope, bucket DESC)")


def _quoted(name: str) -> str:
    return f'"{name}"'


def _run(statements: str) -> None:
    for statement in filter(None, (part.strip() for part in statements.split(";"))):
        op.execute(statement)
