"""Recordings: what was in topics, kept as Avro container files that need neither this project nor a registry."""
