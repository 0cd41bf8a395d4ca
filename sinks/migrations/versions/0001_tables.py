"""The tables of the first version.

Readings, detections and window counts grow without end: where TimescaleDB is installed and loaded they are
hypertables, cut by event time into chunks; elsewhere plain tables with the same columns and indexes.
"""

from alembic import op
from sqlalchemy import text

from fleetwatch.logs import get_logger

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

log = get_logger(__name__)

TABLES = """
CREATE TABLE readings (
    device_id text NOT NULL,
    sensor_type text NOT NULL,
    site text NOT NULL,
    event_time timestamptz NOT NULL,
    seq bigint NOT NULL,
    value double precision NOT NULL,
    unit text NOT NULL,
    quality text NOT NULL,
    online_score double precision,
    batch_score double precision,
    score double precision,
    verdict text NOT NULL,
    state text NOT NULL,
    online_model text NOT NULL,
    batch_model text NOT NULL,
    is_late boolean NOT NULL,
    ingest_time timestamptz NOT NULL,
    source_partition integer NOT NULL,
    source_offset bigint NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (device_id, event_time, seq)
);
CREATE TABLE detections (
    camera_id text NOT NULL,
    event_time timestamptz NOT NULL,
    seq bigint NOT NULL,
    site text NOT NULL,
    label text NOT NULL,
    confidence double precision NOT NULL,
    box_x double precision NOT NULL,
    box_y double precision NOT NULL,
    box_width double precision NOT NULL,
    box_height double precision NOT NULL,
    track_id bigint,
    ingest_time timestamptz NOT NULL,
    source_partition integer NOT NULL,
    source_offset bigint NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (camera_id, event_time, seq)
);
CREATE TABLE window_counts (
    scope text NOT NULL,
    key text NOT NULL,
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    source_topic text NOT NULL,
    source_partition integer NOT NULL,
    count bigint NOT NULL,
    sum double precision NOT NULL,
    sum_of_squares double precision NOT NULL,
    min double precision NOT NULL,
    max double precision NOT NULL,
    late_count bigint NOT NULL,
    included_offset bigint NOT NULL,
    is_final boolean NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (scope, key, window_start, window_end, source_topic, source_partition)
);
CREATE TABLE alerts (
    alert_id text PRIMARY KEY,
    rule text NOT NULL,
    kind text NOT NULL,
    fingerprint text NOT NULL,
    device_id text NOT NULL,
    site text NOT NULL,
    severity text NOT NULL,
    state text NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    value double precision NOT NULL,
    threshold double precision NOT NULL,
    summary text NOT NULL,
    ingest_time timestamptz NOT NULL,
    source_topic text NOT NULL,
    source_partition integer NOT NULL,
    source_offset bigint NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE alert_actions (
    action_id text PRIMARY KEY,
    alert_id text NOT NULL,
    device_id text NOT NULL,
    action text NOT NULL,
    who text NOT NULL,
    at timestamptz NOT NULL,
    until timestamptz,
    note text NOT NULL
);
CREATE TABLE dead_letters (
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    broker_time timestamptz NOT NULL,
    stage text NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    raw_key bytea,
    raw_value bytea,
    value_length bigint NOT NULL,
    value_sha256 text NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, partition, "offset", stage)
);
CREATE TABLE devices (
    device_id text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('sensor', 'camera')),
    sensor_type text,
    site text NOT NULL,
    first_seen timestamptz NOT NULL,
    last_seen timestamptz NOT NULL
) WITH (fillfactor = 70);
CREATE TABLE sink_offsets (
    sink text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    cluster_id text NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (sink, topic, partition)
) WITH (fillfactor = 70);
"""

# The primary keys serve "of one device, newest first"; these serve "of all, newest first" and the alert lists.
INDEXES = """
CREATE INDEX readings_event_time ON readings (event_time DESC);
CREATE INDEX detections_event_time ON detections (event_time DESC);
CREATE INDEX window_counts_scope_window_start ON window_counts (scope, window_start DESC);
CREATE INDEX alerts_state_started_at ON alerts (state, started_at DESC);
CREATE INDEX alerts_device_started_at ON alerts (device_id, started_at DESC);
CREATE INDEX alert_actions_alert_id ON alert_actions (alert_id, at DESC);
CREATE INDEX alert_actions_device_id ON alert_actions (device_id, at DESC);
CREATE INDEX dead_letters_broker_time ON dead_letters (broker_time DESC);
CREATE INDEX devices_last_seen ON devices (last_seen DESC);
"""

HYPERTABLES = (
    ("readings", "event_time", "1 day"),
    ("detections", "event_time", "1 day"),
    ("window_counts", "window_start", "7 days"),
)

NAMES = (
    "readings",
    "detections",
    "window_counts",
    "alerts",
    "alert_actions",
    "dead_letters",
    "devices",
    "sink_offsets",
)


def upgrade() -> None:
    """Make the tables, as hypertables where that is possible."""
    has_hypertables = _create_extension()
    _run(TABLES)
    if has_hypertables:
        for table, column, interval in HYPERTABLES:
            op.execute(
                f"SELECT create_hypertable('{table}', '{column}', chunk_time_interval => INTERVAL '{interval}', "
                "create_default_indexes => false)"
            )
    _run(INDEXES)
    log.info("tables_made", hypertables=has_hypertables)


def downgrade() -> None:
    """Drop the tables with their rows. The extension stays: others may use it."""
    for name in reversed(NAMES):
        op.execute(f"DROP TABLE {name}")


def _create_extension() -> bool:
    """Return whether TimescaleDB can be used here; it must be installed and loaded by the server's configuration."""
    connection = op.get_bind()
    found = connection.execute(
        text("SELECT installed_version FROM pg_available_extensions WHERE name = 'timescaledb'")
    ).first()
    if found is None:
        return False
    if found[0] is None:
        loaded = connection.execute(text("SELECT current_setting('shared_preload_libraries')")).scalar_one()
        if "timescaledb" not in loaded:
            log.warning("timescaledb_not_loaded", hint="add it to shared_preload_libraries; plain tables are made")
            return False
        op.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    return True


def _run(statements: str) -> None:
    for statement in filter(None, (part.strip() for part in statements.split(";"))):
        op.execute(statement)
