"""``fleetwatch schemas check``."""

from __future__ import annotations

import json

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command group."""
    group = typer.Typer(help="Avro schemas of this project.", no_args_is_help=True)
    app.add_typer(group, name="schemas")

    @group.callback()
    def schemas() -> None:
        """Avro schemas of this project."""

    @group.command()
    def check() -> None:
        """Check every schema file and its example, and that every schema has an id."""
        from fleetwatch import avro
        from fleetwatch.schema_check import problems

        found = problems()
        for problem in found:
            typer.echo(problem, err=True)
        if found:
            raise typer.Exit(1)
        typer.echo(json.dumps({"schemas": sorted(avro.schema_ids())}))
