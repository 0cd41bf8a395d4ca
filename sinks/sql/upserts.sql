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
-- A row is only replaced by one of higher (is_final, included_offset).
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
WHERE (excluded.is_final, excluded.included_offset) > (window_counts.is_final, window_counts.included_offset)

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

-- name: devices_of_readings
-- First and last seen of the sensors of a batch; type and site are those of the newest event.
INSERT INTO devices (device_id, kind, sensor_type, site, first_seen, last_seen)
SELECT newest.device_id, 'sensor', newest.sensor_type, newest.site, span.first_seen, newest.event_time
FROM (
    SELECT DISTINCT ON (device_id) device_id, sensor_type, site, event_time
    FROM stage_readings
    ORDER BY device_id, event_time DESC, seq DESC
) AS newest
JOIN (
    SELECT device_id, min(event_time) AS first_seen FROM stage_readings GROUP BY device_id
) AS span USING (device_id)
ORDER BY newest.device_id
ON CONFLICT (device_id) DO UPDATE SET
    kind = CASE WHEN excluded.last_seen >= devices.last_seen THEN excluded.kind ELSE devices.kind END,
    sensor_type = CASE WHEN excluded.last_seen >= devices.last_seen THEN excluded.sensor_type
                       ELSE devices.sensor_type END,
    site = CASE WHEN excluded.last_seen >= devices.last_seen THEN excluded.site ELSE devices.site END,
    first_seen = least(devices.first_seen, excluded.first_seen),
    last_seen = greatest(devices.last_seen, excluded.last_seen)
WHERE excluded.last_seen > devices.last_seen OR excluded.first_seen < devices.first_seen

-- name: devices_of_detections
-- As above, for cameras.
INSERT INTO devices (device_id, kind, sensor_type, site, first_seen, last_seen)
SELECT newest.camera_id, 'camera', NULL, newest.site, span.first_seen, newest.event_time
FROM (
    SELECT DISTINCT ON (camera_id) camera_id, site, event_time
    FROM stage_detections
    ORDER BY camera_id, event_time DESC, seq DESC
) AS newest
JOIN (
    SELECT camera_id, min(event_time) AS first_seen FROM stage_detections GROUP BY camera_id
) AS span USING (camera_id)
ORDER BY newest.camera_id
ON CONFLICT (device_id) DO UPDATE SET
    kind = CASE WHEN excluded.last_seen >= devices.last_seen THEN excluded.kind ELSE devices.kind END,
    sensor_type = CASE WHEN excluded.last_seen >= devices.last_seen THEN excluded.sensor_type
                       ELSE devices.sensor_type END,
    site = CASE WHEN excluded.last_seen >= devices.last_seen THEN excluded.site ELSE devices.site END,
    first_seen = least(devices.first_seen, excluded.first_seen),
    last_seen = greatest(devices.last_seen, excluded.last_seen)
WHERE excluded.last_seen > devices.last_seen OR excluded.first_seen < devices.first_seen
