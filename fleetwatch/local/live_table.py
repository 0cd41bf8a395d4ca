"""What ``fleetwatch up`` shows: pure views of a snapshot, a table for terminals and lines for all else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

SHOWN_NOTICES: Final = 6
_STYLES: Final = {
    "ready": "green",
    "finished": "green",
    "starting": "yellow",
    "stopping": "yellow",
    "waiting": "dim",
    "stopped": "dim",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One process; ``lag`` is None where it reads nothing or the broker is silent."""

    name: str
    health: str
    doing: str
    uptime_seconds: float | None = None
    lag: int | None = None
    restarts: int = 0


@dataclass(frozen=True, kw_only=True)
class View:
    """All that is shown at one moment."""

    rows: tuple[Row, ...]
    totals: dict[str, int]
    notices: tuple[str, ...]
    dashboard: str
    gateway: str
    logs: str
    seconds: float


def as_table(view: View) -> Group:
    """Lay the view out for a terminal."""
    table = Table(expand=True, pad_edge=False, header_style="bold")
    table.add_column("process", no_wrap=True)
    table.add_column("doing", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("health", no_wrap=True)
    table.add_column("up", justify="right", no_wrap=True)
    table.add_column("lag", justify="right", no_wrap=True)
    table.add_column("restarts", justify="right", no_wrap=True)
    for row in view.rows:
        table.add_row(
            row.name,
            Text(row.doing),
            Text(row.health, style=_STYLES.get(row.health, "red")),
            "" if row.uptime_seconds is None else duration(row.uptime_seconds),
            "" if row.lag is None else f"{row.lag:,}",
            str(row.restarts) if row.restarts else "",
        )
    lines: list[Text | Table] = [
        table,
        Text(f"{totals_line(view.totals)}   (running {duration(view.seconds)}, Ctrl-C stops everything)"),
        Text(f"dashboard: {view.dashboard}", style="bold cyan"),
        Text(f"your devices: POST {view.gateway}/v1/readings  (how: {view.gateway}/docs)", style="cyan"),
        Text(f"logs: {view.logs}", style="dim"),
        *(Text(notice, no_wrap=True, overflow="ellipsis") for notice in view.notices[-SHOWN_NOTICES:]),
        Text(""),  # for the ^C of the terminal: behind a full line it would shift the table by one
    ]
    return Group(*lines)


def as_line(view: View) -> str:
    """Put the view into one line."""
    lags = ", ".join(f"{row.name} {row.lag}" for row in view.rows if row.lag)
    unwell = ", ".join(f"{row.name} {row.health}" for row in view.rows if row.health not in {"ready", "finished"})
    parts = [duration(view.seconds), totals_line(view.totals), f"lag: {lags}" if lags else "", unwell]
    return " | ".join(part for part in parts if part)


def totals_line(totals: dict[str, int]) -> str:
    """Return ``produced 1,234  scored 1,200``."""
    return "  ".join(f"{name} {count:,}" for name, count in totals.items())


def duration(seconds: float) -> str:
    """Return a duration as people write it: 42 s, 3:07, 1:02:03."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"
