"""``fleetwatch up``: the whole system on this machine."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads it at run time
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("up")(up)


def up(
    for_seconds: Annotated[
        float | None,
        typer.Option("--for", min=1, help="Stop producing after so many seconds, drain, and print a summary."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="No live table; with --for the last line is one JSON object.")
    ] = False,
    broker: Annotated[
        str,
        typer.Option(help="embedded (in memory), kafka (needs Java 17 and Maven), or HOST:PORT of your own."),
    ] = "embedded",
    state_dir: Annotated[
        Path | None, typer.Option(help="Where data and logs are kept; FLEETWATCH_STATE_DIR if unset.")
    ] = None,
    dashboard_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_535,
            help="Port of the dashboard, 0 for a free one; FLEETWATCH_DASHBOARD_PORT if unset.",
        ),
    ] = None,
    gateway_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_535,
            help="Port of the gateway, 0 for a free one; FLEETWATCH_GATEWAY_PORT, else 8080 or a free one if unset.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulated fleet.")] = 1,
    scenario: Annotated[str, typer.Option(help="Scenario of the simulated fleet: a name, or a YAML file.")] = "demo",
    producers: Annotated[
        bool, typer.Option("--producers/--no-producers", help="Whether to simulate and replay devices.")
    ] = True,
) -> None:
    """Start everything on this machine: broker, database, cache, and every process. Ctrl-C stops all of it.

    Exit code 0: stopped on request, or the figures of --for are good; 1: they are not; 2: something around it
    is wrong.
    """
    from fleetwatch.local import preflight

    preflight.check_python()
    import json
    import logging
    from contextlib import ExitStack

    from fleetwatch.local.interrupts import Interrupts
    from fleetwatch.local.ports import claim_ports
    from fleetwatch.local.screen import make_screen
    from fleetwatch.local.supervisor import Options, Supervisor, prepare
    from fleetwatch.logs import configure_logs
    from fleetwatch.settings import load_settings
    from producers import typed_yaml
    from producers.series import SHIPPED_SERIES, SeriesFile

    changes = {"state_dir": state_dir, "dashboard_port": dashboard_port, "gateway_port": gateway_port}
    settings = load_settings()
    settings = settings.model_copy(update={k: v for k, v in changes.items() if v is not None})
    series = typed_yaml.load(SHIPPED_SERIES, SeriesFile).series
    options = Options(
        for_seconds=for_seconds,
        broker=broker,
        seed=seed,
        scenario=scenario,
        producers=producers,
        replayed=frozenset(entry.device_id for entry in series),
    )
    folder = prepare(settings, options)
    with ExitStack() as claims, Interrupts() as interrupts:
        claims.enter_context(preflight.locked(folder))
        log = claims.enter_context((folder / "logs" / "up.log").open("w"))
        configure_logs(level=settings.log_level, json=settings.log_format == "json", service="up")
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(log)
        settings = claim_ports(settings, claims)
        screen = make_screen(plain=as_json)
        try:
            supervisor = Supervisor(settings, options, screen=screen, interrupts=interrupts)
            figures = supervisor.run()
        finally:
            screen.close()
    if for_seconds is None:
        return
    if figures is None:
        typer.echo("fleetwatch: stopped before anything could be counted", err=True)
        raise typer.Exit(1)
    shortfalls = figures.shortfalls()
    for line in shortfalls:
        typer.echo(f"fleetwatch: {line}", err=True)
    typer.echo(json.dumps(figures.as_dict(), indent=None if as_json else 2))
    raise typer.Exit(1 if shortfalls else 0)
