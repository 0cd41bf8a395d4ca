"""What every command that produces shares: its options, and the run until a signal with the totals at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fleetwatch.service import Status
    from producers.batches import Source

For = Annotated[
    float | None,
    typer.Option("--for", min=0.1, help="Stop after so many seconds; without it, on Ctrl-C or SIGTERM."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print what was produced as one JSON line at the end.")]


def start_ms_of(start: str | None) -> int:
    """Return a time given on the command line in milliseconds since 1970; now if there is none."""
    from datetime import UTC, datetime

    from fleetwatch.errors import EnvironmentProblemError
    from fleetwatch.records import to_millis

    try:
        begin = datetime.now(UTC) if start is None else datetime.fromisoformat(start)
    except ValueError:
        raise EnvironmentProblemError(f"--start {start}: not a time such as 2026-01-31T12:00:00Z") from None
    return to_millis(begin if begin.tzinfo else begin.replace(tzinfo=UTC))


def print_events(sources: Iterable[Source], end_ms: int) -> None:
    """Print the events due before a time as JSON lines, without Kafka and without waiting."""
    import json

    from producers.batches import TOPIC_OF, events_until

    try:
        for _, record_type, row in events_until(sources, end_ms):
            typer.echo(json.dumps({"topic": TOPIC_OF[record_type], **row}))
    except BrokenPipeError:  # the reader, such as head, has enough
        import os
        import sys

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run_producer(
    name: str,
    make_sources: Callable[[int, Status], Iterable[Source]],
    *,
    for_seconds: float | None,
    as_json: bool,
) -> None:
    """Produce until the time is over, the sources are, or a signal comes; exit code 1 when a delivery failed."""
    import json
    from dataclasses import asdict

    from fleetwatch.logs import configure_logs
    from fleetwatch.service import Service
    from fleetwatch.settings import load_settings
    from producers.shell import produce

    settings = load_settings()
    configure_logs(level=settings.log_level, json=settings.log_format == "json", service=name)
    with Service(name, host=settings.http_host, port=settings.http_port) as service:
        status = service.status
        totals = produce(settings, service, lambda start_ms: make_sources(start_ms, status), for_seconds=for_seconds)
    if as_json:
        typer.echo(json.dumps({"command": name, **status.counters, **asdict(totals)}))
    if not totals.is_whole:
        raise typer.Exit(1)
