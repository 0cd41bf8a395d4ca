"""``fleetwatch sink ...``: the consumers that keep the database and the cache up to date."""

from __future__ import annotations

from typing import Annotated

import typer

sink = typer.Typer(
    name="sink",
    help="Keep the database and the cache up to date, and manage their schema.",
    no_args_is_help=True,
)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(sink)


@sink.command()
def timescale(
    migrate: Annotated[bool, typer.Option(help="Bring the database to the newest schema first.")] = True,
) -> None:
    """Write scores, detections, counts, alerts and dead letters to PostgreSQL or TimescaleDB until stopped."""
    from fleetwatch.settings import load_settings
    from sinks.processes import run_timescale

    run_timescale(load_settings(), with_migration=migrate)


@sink.command()
def redis(
    rebuild: Annotated[bool, typer.Option(help="Fill an empty cache from the database, if that is reachable.")] = True,
) -> None:
    """Keep the newest values, counts and open alerts in Redis until stopped."""
    from fleetwatch.settings import load_settings
    from sinks.processes import run_redis

    run_redis(load_settings(), with_rebuild=rebuild)


@sink.command()
def migrate(
    to: Annotated[str, typer.Option(help="Revision to go to; older ones than the present delete rows.")] = "head",
    down: Annotated[bool, typer.Option(help="Go back to that revision ('base' drops all tables).")] = False,
) -> None:
    """Bring the database to the newest schema and print its revision."""
    from fleetwatch.errors import EnvironmentProblemError, TransientError
    from fleetwatch.settings import load_settings
    from sinks import migrate as migrations

    url = load_settings().database_url.get_secret_value()
    try:
        typer.echo(migrations.downgrade(url, to) if down else migrations.migrate(url, to))
    except TransientError as error:
        raise EnvironmentProblemError(str(error)) from None


@sink.command("rebuild-cache")
def rebuild_cache() -> None:
    """Fill Redis from the database; newer values that are there already stay."""
    from fleetwatch.settings import load_settings
    from sinks.processes import rebuild_once

    records = rebuild_once(load_settings())
    typer.echo(f"{records} records read")
