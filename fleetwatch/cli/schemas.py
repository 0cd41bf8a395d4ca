"""``fleetwatch schemas check|register``."""

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
        """Check every schema file and its example, its id, and that each version reads all older ones."""
        from fleetwatch import avro
        from fleetwatch.schema_check import problems

        found = problems()
        for problem in found:
            typer.echo(problem, err=True)
        if found:
            raise typer.Exit(1)
        typer.echo(json.dumps({"schemas": sorted(avro.schema_ids())}))

    @group.command()
    def register() -> None:
        """Register every schema with the registry of FLEETWATCH_SCHEMA_REGISTRY_URL, and print the ids."""
        from fleetwatch import schema_registry
        from fleetwatch.errors import EnvironmentProblemError, TransientError
        from fleetwatch.settings import load_settings

        try:
            ids = schema_registry.register_all(schema_registry.connect(load_settings()))
        except TransientError as error:
            raise EnvironmentProblemError(str(error)) from None
        typer.echo(json.dumps({"ids": ids}))
