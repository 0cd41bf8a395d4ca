"""``gateway``: events over HTTP, and the tokens of devices that send them."""

from __future__ import annotations

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command group."""
    group = typer.Typer(invoke_without_command=True)
    group.callback()(gateway)
    group.command("token")(token)
    app.add_typer(group, name="gateway")


def gateway(
    context: typer.Context,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Port to serve; FLEETWATCH_GATEWAY_PORT if unset, 0 takes a free one."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was produced as one JSON line at the end.")
    ] = False,
) -> None:
    """Take readings and detections over HTTP and put them on Kafka, until SIGTERM or Ctrl-C.

    POST /v1/readings and /v1/detections, described at /docs. Reads FLEETWATCH_GATEWAY_* variables.
    """
    if context.invoked_subcommand is not None:
        return
    import json

    from prometheus_client import CollectorRegistry

    from fleetwatch.logs import configure_logs
    from fleetwatch.service import Service
    from fleetwatch.settings import load_settings
    from producers.gateway.server import run

    settings = load_settings()
    if port is not None:
        settings = settings.model_copy(update={"gateway_port": port})
    configure_logs(level=settings.log_level, json=settings.log_format == "json", service="gateway")
    registry = CollectorRegistry()
    with Service("gateway", host=settings.http_host, port=settings.http_port, registry=registry) as service:
        code = run(settings, service, registry)
    if as_json:
        typer.echo(json.dumps({"command": "gateway", **service.status.counters}))
    raise typer.Exit(code)


def token(
    device: Annotated[str, typer.Argument(help="The device that may send with it, or a pattern such as 'press-*'.")],
    add: Annotated[
        bool, typer.Option("--add", help="Add its line to FLEETWATCH_GATEWAY_TOKENS_FILE; a running gateway takes it.")
    ] = False,
) -> None:
    """Make a token for a device: printed once, kept nowhere; the gateway needs only the line with its hash."""
    import os

    from fleetwatch.errors import EnvironmentProblemError
    from fleetwatch.settings import load_settings
    from producers.gateway.token_source import add_line
    from producers.gateway.tokens import make_token

    made, line = make_token(device, os.urandom)
    if add:
        file = load_settings().gateway_tokens_file
        if file is None:
            raise EnvironmentProblemError("--add needs FLEETWATCH_GATEWAY_TOKENS_FILE: set it to the file's path")
        add_line(file, line)
        typer.echo(f"its line was added to {file}; the token, shown only now:", err=True)
    else:
        typer.echo("line for the tokens file (FLEETWATCH_GATEWAY_TOKENS_FILE):", err=True)
        typer.echo(line, err=True)
        typer.echo("the token, shown only now:", err=True)
    typer.echo(made)
