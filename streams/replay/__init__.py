"""Replay of recordings straight through the engine, and the comparison of what came out."""
