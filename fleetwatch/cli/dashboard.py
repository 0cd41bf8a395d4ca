"""``fleetwatch dashboard``: the live page in a browser."""

from __future__ import annotations

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(dashboard)


def dashboard(
    port: Annotated[
        int | None,
        typer.Option(help="Port of the page; FLEETWATCH_DASHBOARD_PORT when not given, 0 takes a free one."),
    ] = None,
) -> None:
    """Serve the live dashboard."""
    from fleetwatch.logs import configure_logs
    from fleetwatch.settings import load_settings

    settings = load_settings()
    configure_logs(level=settings.log_level, json=settings.log_format == "json", service="dashboard")
    from dashboard import server

    raise typer.Exit(
        server.serve(settings, host=settings.http_host, port=settings.dashboard_port if port is None else port)
    )
