"""``fleetwatch``: gathers the command groups and turns environment problems into one line and exit code 2."""

from __future__ import annotations

import os
import sys

import typer

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.settings import unknown_variables


def build_app() -> typer.Typer:
    """Return the whole command line."""
    from fleetwatch.cli import (
        alert,
        bench,
        dashboard,
        dlq,
        evaluate,
        exchange,
        gateway,
        models,
        record,
        replay,
        schemas,
        simulate,
        sink,
        topics,
        up,
        vision,
        worker,
    )

    app = typer.Typer(
        name="fleetwatch",
        help="Self-hosted, real-time monitoring of sensor and camera fleets on Kafka.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_use_registry)
    for module in (
        up,
        simulate,
        vision,
        gateway,
        record,
        replay,
        worker,
        sink,
        alert,
        dashboard,
        topics,
        schemas,
        dlq,
        exchange,
        evaluate,
        models,
        bench,
    ):
        module.add_to(app)
    return app


def _use_registry(context: typer.Context) -> None:
    """Self-hosted, real-time monitoring of sensor and camera fleets on Kafka."""
    if "FLEETWATCH_SCHEMA_REGISTRY_URL" not in os.environ or context.invoked_subcommand == "schemas":
        return
    from fleetwatch.schema_registry import use_registry
    from fleetwatch.settings import load_settings

    use_registry(load_settings())


def main() -> None:
    """Run the command line."""
    for name in unknown_variables(os.environ):
        typer.echo(f"fleetwatch: warning: {name} is no setting: misspelt? (docs/settings.md lists them)", err=True)
    try:
        build_app()()
    except EnvironmentProblemError as problem:
        typer.echo(f"fleetwatch: {problem}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
