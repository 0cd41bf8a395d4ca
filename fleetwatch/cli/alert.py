"""``alert``: the alerting service, and a test notice through every channel."""

from __future__ import annotations

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Write the console channel's lines as JSON.")]


def add_to(app: typer.Typer) -> None:
    """Register the command group."""
    group = typer.Typer(invoke_without_command=True)
    group.callback()(alert)
    group.command("test")(test)
    app.add_typer(group, name="alert")


def alert(context: typer.Context, as_json: AsJson = False) -> None:
    """Tell people of alerts: on standard output and, with FLEETWATCH_TELEGRAM_TOKEN, in Telegram.

    Runs until SIGTERM or Ctrl-C. Reads FLEETWATCH_* variables.
    """
    if context.invoked_subcommand is not None:
        return
    from alerting.app import run
    from alerting.channels import open_channels
    from fleetwatch.logs import configure_logs
    from fleetwatch.service import Service
    from fleetwatch.settings import load_settings

    settings = load_settings()
    configure_logs(level=settings.log_level, json=settings.log_format == "json", service="alert")
    channels = open_channels(settings, as_json=as_json)
    with Service("alert", host=settings.http_host, port=settings.http_port) as service:
        code = run(settings, service, channels)
    raise typer.Exit(code)


def test() -> None:
    """Send one test notice through every channel and say what became of it; exit code 1 if one failed."""
    import asyncio

    from alerting.channels import open_channels
    from alerting.trial import send_test
    from fleetwatch.logs import configure_logs
    from fleetwatch.settings import load_settings

    settings = load_settings()
    configure_logs(level=settings.log_level, json=settings.log_format == "json", service="alert")
    failed = False
    for lane, said, is_good in asyncio.run(send_test(open_channels(settings))):
        typer.echo(f"{lane}: {said}")
        failed = failed or not is_good
    raise typer.Exit(1 if failed else 0)
