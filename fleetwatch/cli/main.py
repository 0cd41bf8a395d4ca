"""``fleetwatch``: gathers the command groups and turns environment problems into one line and exit code 2."""

from __future__ import annotations

import os
import sys

import typer

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.settings import unknown_variables


def build_app() -> typer.Typer:
    """Return the whole command line."""
    from fleetwatch.cli import alert, dashboard, evaluate, schemas, simulate, sink, topics, up, worker

    app = typer.Typer(
        name="fleetwatch",
        help="Self-hosted, real-time monitoring of sensor and camera fleets on Kafka.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for module in (up, simulate, worker, sink, alert, dashboard, topics, schemas, evaluate):
        module.add_to(app)
    return app


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
