"""``simulate`` and ``replay-dataset``: devices that send events."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from producers.batches import Source

For = Annotated[
    float | None,
    typer.Option("--for", min=0.1, help="Stop after so many seconds; without it, on Ctrl-C or SIGTERM."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print what was produced as one JSON line at the end.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("simulate")(simulate)
    app.command("replay-dataset")(replay_dataset)


def simulate(
    scenario: Annotated[str, typer.Option(help="Name of a shipped scenario, or a YAML file.")] = "demo",
    devices: Annotated[
        int | None,
        typer.Option(min=0, help="Number of sensors, spread over the types; as the scenario says if unset."),
    ] = None,
    cameras: Annotated[
        int | None, typer.Option(min=0, help="Number of cameras; as the scenario says if unset.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Readings of one sensor in a second; as the scenario says if unset.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed and start time: same events.")] = 1,
    device_id: Annotated[
        str | None,
        typer.Option(envvar="DEVICE_ID", help="Send only this device's events, as one container does."),
    ] = None,
    for_seconds: For = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the events as JSON lines, without Kafka and without waiting."),
    ] = False,
    start: Annotated[
        str | None, typer.Option(help="Event time of the start, ISO 8601, for --dry-run; now if unset.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate a fleet: sensors, cameras, and faults with their ground truth."""
    from fleetwatch.errors import EnvironmentProblemError
    from producers.simulate.scenario import load_scenario
    from producers.simulate.simulation import check_device
    from producers.simulate.simulation import simulate as make

    chosen = load_scenario(scenario).changed(devices=devices, cameras=cameras, rate_hz=rate)
    only = device_id or None  # an empty DEVICE_ID is none
    if only is not None:
        check_device(chosen, only)

    def sources(start_ms: int) -> Iterable[Source]:
        return make(chosen, seed=seed, start_ms=start_ms, device_id=only)

    if dry_run:
        _print_events(sources, start, for_seconds or 10.0)
        return
    if start is not None:
        raise EnvironmentProblemError("--start is for --dry-run: a real run starts now")
    _run("simulate", sources, for_seconds=for_seconds, as_json=as_json)


def replay_dataset(
    speed: Annotated[float, typer.Option(min=0.01, max=1000, help="Factor on the rate of every series.")] = 1.0,
    series: Annotated[
        Path | None, typer.Option(help="YAML file that lists the series; the shipped ones if unset.")
    ] = None,
    for_seconds: For = None,
    as_json: AsJson = False,
) -> None:
    """Replay recorded series with labelled anomalies as devices that live now."""
    from producers.replay_dataset import replay
    from producers.series import SHIPPED_SERIES, load_series

    loaded = load_series(series or SHIPPED_SERIES)
    _run(
        "replay-dataset",
        lambda start_ms: replay(loaded, start_ms=start_ms, speed=speed),
        for_seconds=for_seconds,
        as_json=as_json,
    )


def _print_events(sources: Callable[[int], Iterable[Source]], start: str | None, for_seconds: float) -> None:
    import json
    from datetime import UTC, datetime

    from fleetwatch.errors import EnvironmentProblemError
    from fleetwatch.records import to_millis
    from producers.batches import TOPIC_OF, events_until

    try:
        begin = datetime.now(UTC) if start is None else datetime.fromisoformat(start)
    except ValueError:
        raise EnvironmentProblemError(f"--start {start}: not a time such as 2026-01-31T12:00:00Z") from None
    start_ms = to_millis(begin if begin.tzinfo else begin.replace(tzinfo=UTC))
    try:
        for _, record_type, row in events_until(sources(start_ms), start_ms + round(for_seconds * 1000)):
            typer.echo(json.dumps({"topic": TOPIC_OF[record_type], **row}))
    except BrokenPipeError:  # the reader, such as head, has enough
        import os
        import sys

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(name: str, sources: Callable[[int], Iterable[Source]], *, for_seconds: float | None, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    from fleetwatch.logs import configure_logs
    from fleetwatch.service import Service
    from fleetwatch.settings import load_settings
    from producers.shell import produce

    settings = load_settings()
    configure_logs(level=settings.log_level, json=settings.log_format == "json", service=name)
    with Service(name, host=settings.http_host, port=settings.http_port) as service:
        totals = produce(settings, service, sources, for_seconds=for_seconds)
    if as_json:
        typer.echo(json.dumps({"command": name, **asdict(totals)}))
    if not totals.is_whole:
        raise typer.Exit(1)
