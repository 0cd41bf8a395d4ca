-- What the database sink does from time to time, one sink at a time.

-- name: edition
-- 'plain', 'apache' or 'timescale' (community).
SELECT CASE WHEN EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
            THEN coalesce(current_setting('timescaledb.license', true), 'apache') ELSE 'plain' END

-- name: take_turn
-- False when another sink is at it; the lock ends with the transaction.
SELECT pg_try_advisory_xact_lock(%(key)s)

-- name: mark_inactive
-- Silent by the device's clock and by the broker's. They are active again when they speak (upserts.sql).
UPDATE devices SET inactive_since = %(now)s
WHERE inactive_since IS NULL AND greatest(last_seen, heard_at) < %(silent_since)s

-- name: is_hypertable
SELECT EXISTS (
    SELECT FROM timescaledb_information.hypertables
    WHERE hypertable_schema = current_schema() AND hypertable_name = %(table)s
)

-- name: drop_chunks
-- Whole chunks that are older: a matter of milliseconds, whatever is in them.
SELECT count(*) FROM drop_chunks({table}, older_than => %(before)s::timestamptz)

-- name: delete_slice
-- Elsewhere rows go, so many at once, oldest first. Where the index on the time begins with the scope, all scopes are
-- named ({scoped}): without them PostgreSQL 17 and older reads the whole index each time.
DELETE FROM {table} WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM {table} WHERE {scoped}{column} < %(before)s ORDER BY {column} LIMIT %(limit)s
))
