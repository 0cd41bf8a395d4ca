"""``simulate`` and ``replay-dataset``: devices that send events."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from fleetwatch.cli.producing import AsJson, For, print_events, run_producer, start_ms_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from producers.batches import Source


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
        typer.Option(
            envvar="DEVICE_ID", help="Send only this device's events (id, or number from 0), as one container does."
        ),
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
    from producers.simulate.simulation import device_of
    from producers.simulate.simulation import simulate as make

    chosen = load_scenario(scenario).changed(devices=devices, cameras=cameras, rate_hz=rate)
    only = device_of(chosen, device_id) if device_id else None  # an empty DEVICE_ID is none

    def sources(start_ms: int) -> Iterable[Source]:
        return make(chosen, seed=seed, start_ms=start_ms, device_id=only)

    if dry_run:
        start_ms = start_ms_of(start)
        print_events(sources(start_ms), start_ms + round((for_seconds or 10.0) * 1000))
        return
    if start is not None:
        raise EnvironmentProblemError("--start is for --dry-run: a real run starts now")
    run_producer("simulate", lambda start_ms, _: sources(start_ms), for_seconds=for_seconds, as_json=as_json)


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
    run_producer(
        "replay-dataset",
        lambda start_ms, _: replay(loaded, start_ms=start_ms, speed=speed),
        for_seconds=for_seconds,
        as_json=as_json,
    )
