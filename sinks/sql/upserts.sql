-- From the staging tables into the real ones. Every statement sorts by the identity, so that two sinks lock rows in
-- the same order, and takes one row of each identity, since ON CONFLICT cannot touch a row twice.

-- name: readings
-- A repeated reading never differs: the first one stays.
INSERT INTO readings ({columns})
SELECT DISTINCT ON (device_id, event_time, seq) {columns}
FROM stage_readings
ORDER BY device_id, event_time, seq
ON CONFLICT (device_id, event_time, seq) DO NOTHING

-- name: detections
-- A repeated detection never differs: the first one stays.
INSERT INTO detections ({columns})
SELECT DISTINCT ON (camera_id, event_time, seq) {columns}
FROM stage_detections
ORDER BY camera_id, event_time, seq
ON CONFLICT (camera_id, event_time, seq) DO NOTHING

-- name: window_counts
-- A row is only replaced by one of higher (is_final, included_offset), a final one never.
INSERT INTO window_counts ({columns})
SELECT DISTINCT ON (scope, key, window_start, window_end, source_topic, source_partition) {columns}
FROM stage_window_counts
ORDER BY scope, key, window_start, window_end, source_topic, source_partition,
         is_final DESC, included_offset DESC
ON CONFLICT (scope, key, window_start, window_end, source_topic, source_partition) DO UPDATE SET
    count = excluded.count,
    sum = excluded.sum,
    sum_of_squares = excluded.sum_of_squares,
    min = excluded.min,
    max = excluded.max,
    late_count = excluded.late_count,
    included_offset = excluded.included_offset,
    is_final = excluded.is_final,
    stored_at = clock_timestamp()
WHERE NOT window_counts.is_final
  AND (excluded.is_final, excluded.included_offset) > (window_counts.is_final, window_counts.included_offset)

-- name: window_counts_and_rollups
-- As above, and each window that became final is added to its minute and its hour, in the same statement: exactly once.
WITH changed AS (
    {window_counts}
    RETURNING *
), minutes AS (
    INSERT INTO counts_1m (bucket, scope, key, source_topic, source_partition,
                           count, sum, sum_of_squares, min, max, late_count)
    SELECT date_bin(INTERVAL '1 minute', window_start, TIMESTAMPTZ '2000-01-01 00:00Z') AS bucket, scope, key,
           source_topic, source_partition,
           sum(count), sum(sum), sum(sum_of_squares), min(min), max(max), sum(late_count)
    FROM changed
    WHERE is_final
    GROUP BY 1, 2, 3, 4, 5
    ORDER BY scope, key, bucket, source_topic, source_partition
    ON CONFLICT (scope, key, bucket, source_topic, source_partition) DO UPDATE SET
        count = counts_1m.count + excluded.count,
        sum = counts_1m.sum + excluded.sum,
        sum_of_squares = counts_1m.sum_of_squares + excluded.sum_of_squares,
        min = least(counts_1m.min, excluded.min),
        max = greatest(counts_1m.max, excluded.max),
        late_count = counts_1m.late_count + excluded.late_count
)
INSERT INTO counts_1h (bucket, scope, key, source_topic, source_partition,
                       count, sum, sum_of_squares, min, max, late_count)
SELECT date_bin(INTERVAL '1 hour', window_start, TIMESTAMPTZ '2000-01-01 00:00Z') AS bucket, scope, key,
       source_topic, source_partition,
       sum(count), sum(sum), sum(sum_of_squares), min(min), max(max), sum(late_count)
FROM changed
WHERE is_final
GROUP BY 1, 2, 3, 4, 5
ORDER BY scope, key, bucket, source_topic, source_partition
ON CONFLICT (scope, key, bucket, source_topic, source_partition) DO UPDATE SET
    count = counts_1h.count + excluded.count,
    sum = counts_1h.sum + excluded.sum,
    sum_of_squares = counts_1h.sum_of_squares + excluded.sum_of_squares,
    min = least(counts_1h.min, excluded.min),
    max = greatest(counts_1h.max, excluded.max),
    late_count = counts_1h.late_count + excluded.late_count

-- name: alerts
-- RESOLVED replaces FIRING, nothing replaces RESOLVED ('RESOLVED' sorts after 'FIRING').
INSERT INTO alerts ({columns})
SELECT DISTINCT ON (alert_id) {columns}
FROM stage_alerts
ORDER BY alert_id, state DESC
ON CONFLICT (alert_id) DO UPDATE SET
    state = excluded.state,
    severity = excluded.severity,
    ended_at = excluded.ended_at,
    value = excluded.value,
    threshold = excluded.threshold,
    summary = excluded.summary,
    ingest_time = excluded.ingest_time,
    source_topic = excluded.source_topic,
    source_partition = excluded.source_partition,
    source_offset = excluded.source_offset,
    stored_at = clock_timestamp()
WHERE alerts.state = 'FIRING' AND excluded.state = 'RESOLVED'

-- name: alert_actions
INSERT INTO alert_actions ({columns})
SELECT DISTINCT ON (action_id) {columns}
FROM stage_alert_actions
ORDER BY action_id
ON CONFLICT (action_id) DO NOTHING

-- name: dead_letters
-- The newer event wins: a broker that was made anew gives the same offsets to other events.
INSERT INTO dead_letters ({columns})
SELECT DISTINCT ON (topic, partition, "offset", stage) {columns}
FROM stage_dead_letters
ORDER BY topic, partition, "offset", stage, broker_time DESC
ON CONFLICT (topic, partition, "offset", stage) DO UPDATE SET
    broker_time = excluded.broker_time,
    reason = excluded.reason,
    detail = excluded.detail,
    raw_key = excluded.raw_key,
    raw_value = excluded.raw_value,
    value_length = excluded.value_length,
    value_sha256 = excluded.value_sha256,
    stored_at = clock_timestamp()
WHERE excluded.broker_time > dead_letters.broker_time

-- name: devices
-- First and last seen of the devices of a batch, and when the broker last heard them; type and site are those of the
-- newest event. One that was inactive speaks again.
INSERT INTO devices (device_id, kind, sensor_type, site, first_seen, last_seen, heard_at)
SELECT seen.device_id, seen.kind, seen.sensor_type, seen.site,
       to_timestamp(0) + seen.first_ms * INTERVAL '1 millisecond',
       to_timestamp(0) + seen.last_ms * INTERVAL '1 millisecond',
       to_timestamp(0) + seen.heard_ms * INTERVAL '1 millisecond'
FROM unnest(
    %(device_id)s::text[], %(kind)s::text[], %(sensor_type)s::text[], %(site)s::text[],
    %(first_seen)s::bigint[], %(last_seen)s::bigint[], %(heard_at)s::bigint[]
) AS seen (device_id, kind, sensor_type, site, first_ms, last_ms, heard_ms)
ORDER BY seen.device_id
ON CONFLICT (device_id) DO UPDATE SET
    kind = CASE WHEN excluded.last_seen >= devices.last_seen THEN excluded.kind ELSE devices.kind END,
    sensor_type = CASE WHEN excluded.last_seen >= devices.last_seen THEN excluded.sensor_type
                       ELSE devices.sensor_type END,
    site = CASE WHEN excluded.last_seen >= devices.last_seen THEN excluded.site ELSE devices.site END,
    first_seen = least(devices.first_seen, excluded.first_seen),
    last_seen = greatest(devices.last_seen, excluded.last_seen),
    heard_at = greatest(devices.heard_at, excluded.heard_at),
    inactive_since = CASE WHEN excluded.heard_at > devices.heard_at THEN NULL ELSE devices.inactive_since END
WHERE excluded.last_seen > devices.last_seen
   OR excluded.first_seen < devices.first_seen
   OR excluded.heard_at > devices.heard_at
