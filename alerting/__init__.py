"""Turns the alert topic into notifications that people can act on."""
