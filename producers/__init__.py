"""Simulators, data-set replay and the shells that produce their events."""
