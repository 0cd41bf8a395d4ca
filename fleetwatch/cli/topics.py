"""``fleetwatch topics create|describe``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from fleetwatch.logs import configure_logs
from fleetwatch.settings import load_settings


def add_to(app: typer.Typer) -> None:
    """Register the command group."""
    group = typer.Typer(help="Kafka topics of this project.", no_args_is_help=True)
    app.add_typer(group, name="topics")

    @group.command()
    def create() -> None:
        """Create the topics that are missing."""
        settings = load_settings()
        configure_logs(level=settings.log_level)
        from fleetwatch import kafka, topics

        kafka.ensure_topics(settings)
        typer.echo(f"topics are there: {', '.join(topics.ALL)}")

    @group.command()
    def describe(
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Show partitions, end offsets, and the lag of each consumer group."""
        settings = load_settings()
        configure_logs(level=settings.log_level)
        from confluent_kafka import Consumer

        from fleetwatch import kafka, topics

        kafka.connect(settings)
        client = Consumer(kafka.consumer_config(settings, "fleetwatch-describe"))
        try:
            found = {
                name: {
                    number: kafka.watermarks(client, name, number)[1] for number in kafka.partitions_of(client, name)
                }
                for name in topics.ALL
            }
        finally:
            client.close()
        lags = {group: sum(kafka.lag_of(settings, group).values()) for group in topics.READ_BY}
        if as_json:
            typer.echo(json.dumps({"topics": found, "lag": lags}))
            return
        for name, ends in found.items():
            state = f"{len(ends)} partitions, {sum(ends.values())} messages written" if ends else "missing"
            typer.echo(f"{name:22} {state}")
        for name, lag in lags.items():
            typer.echo(f"{name:28} lag {lag}")
