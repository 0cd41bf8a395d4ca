"""Simulated fleets: pure functions of a seed, a state and a time. No clock, no I/O but reading scenarios."""
