"""What a forked worker needs, imported once by the server that forks it."""

from __future__ import annotations

import river.anomaly

import fleetwatch.cli.main
import fleetwatch.service
import streams.app

__all__ = ["fleetwatch", "river", "streams"]
