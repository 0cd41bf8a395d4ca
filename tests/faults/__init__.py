"""Faults put into running processes, over and over, and what was lost or doubled by them.

A module here has a function ``scenarios()``; ``python -m tests.faults`` runs those of all modules.
"""
