"""``fleetwatch worker`` and ``fleetwatch warm-up``."""

from __future__ import annotations

import typer

from fleetwatch.logs import configure_logs
from fleetwatch.settings import load_settings


def add_to(app: typer.Typer) -> None:
    """Register the commands."""

    @app.command()
    def worker() -> None:
        """Count and score what devices send: one streams worker; start as many as there are partitions."""
        settings = load_settings()
        configure_logs(level=settings.log_level, json=settings.log_format == "json", service="worker")
        from fleetwatch.service import Service

        with Service("worker", host=settings.http_host, port=settings.http_port) as service:
            from streams.app import main

            code = main(settings, service)
        raise typer.Exit(code)

    @app.command("warm-up")
    def warm_up() -> None:
        """Compile the numeric kernels ahead (some 20 s, once), so that the first worker starts fast."""
        from sinks.warm_up import compile_kernels as compile_kernels_of_sinks
        from streams.warm_up import compile_kernels

        seconds = compile_kernels() + compile_kernels_of_sinks()
        typer.echo(f"kernels ready after {seconds:.1f} s")
