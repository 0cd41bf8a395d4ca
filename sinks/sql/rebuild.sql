-- What the cache is rebuilt from: the newest of each, and only of devices that spoke lately.

-- name: offsets
-- Up to where the database holds everything; the Kafka cluster that was written to last comes first.
SELECT cluster_id, topic, partition, next_offset FROM sink_offsets WHERE sink = 'timescale' ORDER BY stored_at DESC

-- name: readings
SELECT newest.*
FROM devices
CROSS JOIN LATERAL (
    SELECT {columns} FROM readings
    WHERE readings.device_id = devices.device_id
    ORDER BY event_time DESC, seq DESC
    LIMIT %(events)s
) AS newest
WHERE devices.kind = 'sensor' AND greatest(devices.last_seen, devices.heard_at) >= %(since)s

-- name: detections
SELECT newest.*
FROM devices
CROSS JOIN LATERAL (
    SELECT {columns} FROM detections
    WHERE detections.camera_id = devices.device_id
    ORDER BY event_time DESC, seq DESC
    LIMIT %(events)s
) AS newest
WHERE devices.kind = 'camera' AND greatest(devices.last_seen, devices.heard_at) >= %(since)s

-- name: window_counts
-- The newest window of each key and partition, among those of the last hour that has any.
SELECT DISTINCT ON (scope, key, source_topic, source_partition) {columns}
FROM window_counts
WHERE window_start >= %(since)s
  AND window_start >= (SELECT max(window_start) FROM window_counts) - INTERVAL '1 hour'
ORDER BY scope, key, source_topic, source_partition, window_start DESC

-- name: alerts
SELECT {columns} FROM alerts WHERE state = 'FIRING'
