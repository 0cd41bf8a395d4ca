"""An open alert as the cache keeps it: one JSON text in the hash ``alerts:open``, times in milliseconds."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, Final

from fleetwatch.records import Alert, AlertState, RuleKind, Severity, from_millis

OPEN_ALERTS: Final = "alerts:open"
"""The hash: alert id -> JSON."""


def alert_of(text: str) -> Alert | None:
    """Read an open alert from its JSON; None when it cannot be used."""
    try:
        raw: dict[str, Any] = json.loads(text)
        values: dict[str, Any] = {
            field.name: raw[f"{field.name}_ms"] if f"{field.name}_ms" in raw else raw.get(field.name)
            for field in fields(Alert)
        }
        for name in ("started_at", "ended_at", "ingest_time"):
            values[name] = None if values[name] is None else from_millis(int(values[name]))
        values["kind"] = RuleKind(values["kind"])
        values["severity"] = Severity(values["severity"])
        values["state"] = AlertState(values["state"])
        values["value"] = float(values["value"])
        values["threshold"] = float(values["threshold"])
        return Alert(**values)
    except (KeyError, ValueError, TypeError, AttributeError):
        return None
