"""``fleetwatch record``: topics into a folder, and what can be done with such a folder."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003  # typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fleetwatch.recording.manifest import Manifest
    from fleetwatch.recording.reader import Found

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")]


def add_to(app: typer.Typer) -> None:
    """Register the command group."""
    group = typer.Typer(invoke_without_command=True)
    group.callback()(record)
    group.command("verify")(verify)
    group.command("salvage")(salvage)
    app.add_typer(group, name="record")


def record(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option(help="Folder; a recording that is there already is taken up where it ended.")
    ] = None,
    topics: Annotated[
        str, typer.Option(help="Topics, comma separated.")
    ] = "fleet.readings,fleet.detections,fleet.alerts,fleet.alert-actions,fleet.truth",
    begin: Annotated[
        str, typer.Option("--from", help="start (of what is kept), now, an offset, or a time in ISO 8601.")
    ] = "start",
    end: Annotated[
        str | None, typer.Option("--to", help="now, an offset, or a time (also one to come); unset: until stopped.")
    ] = None,
    for_seconds: Annotated[float | None, typer.Option("--for", min=0.1, help="Stop after so many seconds.")] = None,
    part_mb: Annotated[int, typer.Option(min=1, max=4096, help="A file is closed at this size.")] = 64,
    as_json: AsJson = False,
) -> None:
    """Record topics into a folder of Avro files, beside whatever else reads them: no group, no commit.

    Ends on SIGTERM or Ctrl-C, or where --to or --for say.
    """
    if context.invoked_subcommand is not None:
        return
    from fleetwatch.errors import EnvironmentProblemError
    from fleetwatch.logs import configure_logs
    from fleetwatch.service import Service
    from fleetwatch.settings import load_settings
    from producers.record import Plan, parse_at
    from producers.record import record as run

    if out is None:
        raise EnvironmentProblemError("record: give a folder: --out DIR")
    names = tuple(dict.fromkeys(name.strip() for name in topics.split(",") if name.strip()))
    if not names:
        raise EnvironmentProblemError("--topics names none")
    plan = Plan(
        topics=names,
        begin=parse_at(begin, "--from"),
        end=None if end is None else parse_at(end, "--to"),
        for_seconds=for_seconds,
        part_bytes=part_mb * 1024 * 1024,
    )
    settings = load_settings()
    configure_logs(level=settings.log_level, json=settings.log_format == "json", service="record")
    with Service("record", host=settings.http_host, port=settings.http_port) as service:
        manifest = run(settings, service, plan, out)
    _say_recorded(manifest, as_json=as_json)


def verify(folder: Annotated[Path, typer.Argument(help="The recording.")], as_json: AsJson = False) -> None:
    """Read all of a recording and say whether it is whole. Exit code 1: it is damaged."""
    from fleetwatch.recording.reader import verify as check

    _say_found(check(folder), as_json=as_json)


def salvage(
    folder: Annotated[Path, typer.Argument(help="The damaged recording, which is left as it is.")],
    out: Annotated[Path, typer.Option(help="A new folder for what can be read.")],
    as_json: AsJson = False,
) -> None:
    """Copy what can be read of a damaged recording. Exit code 1: something could not."""
    from fleetwatch.recording.reader import salvage as copy

    _say_found(copy(folder, out), as_json=as_json)


def _say_recorded(manifest: Manifest, *, as_json: bool) -> None:
    if as_json:
        events = {topic: facts.total.events for topic, facts in manifest.topics.items()}
        typer.echo(json.dumps({"command": "record", "events": events, "is_complete": manifest.is_complete}))
        return
    for topic, facts in manifest.topics.items():
        size = sum(part.bytes for part in facts.parts) / 1e6
        typer.echo(f"{topic}: {facts.total.events} events in {len(facts.parts)} files, {size:.1f} MB")


def _say_found(found: Found, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
    else:
        for topic, events in sorted(found.events.items()):
            typer.echo(f"{topic}: {events} events")
        for note in found.notes:
            typer.echo(f"note: {note}")
        for problem in found.problems:
            typer.echo(f"damaged: {problem}", err=True)
    raise typer.Exit(1 if found.problems else 0)
