"""``fleetwatch import`` and ``fleetwatch export``: between recordings and the files of other tools."""

from __future__ import annotations

import json
from pathlib import Path  # typer reads it at run time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from producers.import_files import Format

MappingFile = Annotated[Path, typer.Option("--mapping", help="YAML: which column is device, time, value, type.")]
Out = Annotated[Path, typer.Option(help="A new folder for the recording.")]
Partitions = Annotated[int, typer.Option(min=1, help="Partitions to spread the devices over.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out rows that cannot be read, and count them.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(help="Make a recording of a file that you have.", no_args_is_help=True)
    group.command("csv")(csv)
    group.command("jsonl")(jsonl)
    app.add_typer(group, name="import")
    app.command("export")(export)


def csv(
    file: Annotated[Path, typer.Argument(help="CSV with a header line.")],
    mapping: MappingFile,
    out: Out,
    partitions: Partitions = 4,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Import a CSV file as readings."""
    _import(file, "csv", mapping, out, partitions, skip_bad=skip_bad, as_json=as_json)


def jsonl(
    file: Annotated[Path, typer.Argument(help="A JSON object a line; nested values are not looked at.")],
    mapping: MappingFile,
    out: Out,
    partitions: Partitions = 4,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Import a file of JSON lines as readings."""
    _import(file, "jsonl", mapping, out, partitions, skip_bad=skip_bad, as_json=as_json)


def _import(
    file: Path, kind: Format, mapping: Path, out: Path, partitions: int, *, skip_bad: bool, as_json: bool
) -> None:
    from producers import typed_yaml
    from producers.import_files import Mapping, import_file

    chosen = typed_yaml.load(mapping, Mapping)
    done = import_file(file, kind, chosen, out, partitions=partitions, skip_bad=skip_bad)
    (events,) = (facts.total.events for facts in done.manifest.topics.values())
    if as_json:
        facts = {"events": events, "without_value": done.without_value, "unreadable": done.unreadable}
        typer.echo(json.dumps({"command": "import"} | facts))
        return
    typer.echo(f"{events} readings in {out}")
    if done.without_value:
        typer.echo(f"{done.without_value} rows had no value")
    if done.unreadable:
        typer.echo(f"{done.unreadable} rows could not be read")


def export(
    folder: Annotated[Path, typer.Argument(help="The recording, or the results of a replay.")],
    out: Annotated[Path, typer.Option(help="Folder for the tables.")],
    topic: Annotated[str, typer.Option(help="Which topic.")] = "fleet.readings",
    kind: Annotated[Literal["parquet", "csv"], typer.Option("--format", help="parquet or csv.")] = "parquet",
) -> None:
    """Export a topic of a recording as tables, one for each of its files."""
    from fleetwatch.cli.progress import progress
    from fleetwatch.recording.export import export as write
    from fleetwatch.recording.reader import Recording

    recording = Recording(folder)
    with progress("exporting", recording.events([topic])) as advance:
        written = write(recording, topic, out, kind, advance)
    for path in written:
        typer.echo(str(path))
