"""Consumers that keep TimescaleDB and Redis up to date."""
