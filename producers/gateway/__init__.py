"""Ingestion over HTTP: JSON in, Avro on Kafka, an answer only when Kafka has acknowledged (docs/gateway.md)."""
