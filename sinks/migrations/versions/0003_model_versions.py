"""Trained models: what describes each version, and its artefact. Written and read by the streams, and by people."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Artefacts are compressed already: EXTERNAL keeps PostgreSQL from trying again.
UPGRADE = """
CREATE TABLE model_versions (
    sensor_type text NOT NULL,
    version text NOT NULL,
    status text NOT NULL,
    changed_at timestamptz NOT NULL,
    trained_at timestamptz NOT NULL,
    record jsonb NOT NULL,
    artefact bytea NOT NULL,
    artefact_sha256 text NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (sensor_type, version)
);
ALTER TABLE model_versions ALTER COLUMN artefact SET STORAGE EXTERNAL
"""


def upgrade() -> None:
    """Make the table."""
    for statement in UPGRADE.split(";"):
        op.execute(statement)


def downgrade() -> None:
    """Drop it: workers keep the models that are on their disks."""
    op.execute("DROP TABLE model_versions")
