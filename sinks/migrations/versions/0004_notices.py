"""What became of each notice to people, and mutes of a rule.

Written by alerting, a row for each destination and change of an alert: it says after a kill what was told already.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NOTICES = """
CREATE TABLE notices (
    lane text NOT NULL,
    alert_id text NOT NULL,
    told text NOT NULL CHECK (told IN ('FIRING', 'RESOLVED', 'SUMMARY')),
    state text NOT NULL CHECK (state IN ('sent', 'retrying', 'refused', 'unknown')),
    attempts integer NOT NULL,
    reference text NOT NULL DEFAULT '',
    detail text NOT NULL DEFAULT '',
    first_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (lane, alert_id, told)
) WITH (fillfactor = 70)
"""


def upgrade() -> None:
    """Make the table of notices, and room for the rule of a mute."""
    op.execute(NOTICES)
    op.execute("CREATE INDEX notices_changed_at ON notices (changed_at DESC)")
    op.execute("ALTER TABLE alert_actions ADD COLUMN rule text NOT NULL DEFAULT ''")


def downgrade() -> None:
    """Forget them: what is not settled may be told again. A mute of a rule loses which rule it was for."""
    op.execute("ALTER TABLE alert_actions DROP COLUMN rule")
    op.execute("DROP TABLE notices")
