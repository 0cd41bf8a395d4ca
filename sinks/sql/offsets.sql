-- name: read
-- Where each partition goes on, as far as it belongs to this Kafka cluster.
SELECT topic, partition, next_offset FROM sink_offsets WHERE sink = %(sink)s AND cluster_id = %(cluster_id)s

-- name: write
-- In the transaction of the rows. Within a cluster offsets only go forward: a member that lost the partition and
-- finishes late cannot move its successor back.
INSERT INTO sink_offsets (sink, topic, partition, next_offset, cluster_id, stored_at)
SELECT %(sink)s, place.topic, place.partition, place.next_offset, %(cluster_id)s, clock_timestamp()
FROM unnest(%(topics)s::text[], %(partitions)s::integer[], %(offsets)s::bigint[])
     AS place (topic, partition, next_offset)
ORDER BY place.topic, place.partition
ON CONFLICT (sink, topic, partition) DO UPDATE SET
    next_offset = excluded.next_offset,
    cluster_id = excluded.cluster_id,
    stored_at = excluded.stored_at
WHERE excluded.next_offset > sink_offsets.next_offset OR excluded.cluster_id <> sink_offsets.cluster_id

-- name: forget
-- The log ends before the stored offset: it is another log under an old name.
DELETE FROM sink_offsets
WHERE sink = %(sink)s AND topic = %(topic)s AND partition = %(partition)s

-- name: prepare_connection
SELECT set_config('statement_timeout', %(statement_timeout)s, false),
       set_config('lock_timeout', %(lock_timeout)s, false),
       set_config('idle_in_transaction_session_timeout', %(statement_timeout)s, false),
       set_config('timezone', 'UTC', false)

-- name: rolls_up
-- Whether minutes and hours are tables that the sink fills; continuous aggregates fill themselves.
SELECT relkind = 'r' FROM pg_class WHERE oid = 'counts_1m'::regclass
