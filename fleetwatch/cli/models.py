"""``fleetwatch train`` and ``fleetwatch models``: batch models, their versions, and which of them is in force."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003  # typer reads it at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from fleetwatch.model_catalogue import Catalogue
    from fleetwatch.records import ModelVersion
    from fleetwatch.settings import Settings
    from streams.model_desk import ModelDesk
    from streams.training_sample import SampleFold

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
SensorType = Annotated[str, typer.Argument(metavar="TYPE", help="Sensor type, or 'fallback'.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("train")(train)
    group = typer.Typer(help="Versions of batch models: which there are, and which is in force.", no_args_is_help=True)
    group.command("list")(list_)
    group.command("promote")(promote)
    group.command("rollback")(rollback)
    app.add_typer(group, name="models")


def train(
    from_database: Annotated[
        bool, typer.Option("--from-database", help="On the readings of FLEETWATCH_DATABASE_URL; what is done if unset.")
    ] = False,
    from_recording: Annotated[Path | None, typer.Option(help="On the readings of a recording.")] = None,
    from_csv: Annotated[Path | None, typer.Option(help="On a CSV file; needs --mapping.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="With --from-csv: which column is what, as of `import`.")] = None,
    sensor_type: Annotated[
        list[str] | None,
        typer.Option(help="Only this type; may be given again. All, and the fallback over all types, if unset."),
    ] = None,
    since: Annotated[str | None, typer.Option(help="Only readings from this event time on, ISO 8601.")] = None,
    until: Annotated[str | None, typer.Option(help="Only readings before this event time, ISO 8601.")] = None,
    version_note: Annotated[str, typer.Option(help="What to remember of these versions.")] = "",
    promote: Annotated[bool, typer.Option("--promote", help="Put them in force at once, unguarded.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train batch models on a history. The first version of a type is in force at once, later ones are shadows.

    Exit code 1: nothing was trained.
    """
    from datetime import UTC, datetime

    from fleetwatch.errors import EnvironmentProblemError
    from streams.model_desk import ModelDesk
    from streams.model_files import facts_of

    if sum([from_database, from_recording is not None, from_csv is not None]) > 1:
        raise EnvironmentProblemError("train: give one of --from-database, --from-recording and --from-csv")
    if (from_csv is None) != (mapping is None):
        raise EnvironmentProblemError("train: --from-csv and --mapping go together")
    span = (_time("--since", since), _time("--until", until))
    settings = _settings()
    desk = ModelDesk(settings)
    fold = _collect(settings, from_recording, from_csv, mapping, span, shown=not as_json)
    trained: list[ModelVersion] = []
    skipped: dict[str, str] = {}
    now = datetime.now(UTC).replace(microsecond=0)
    for name, result in desk.train(
        fold.samples(), frozenset(sensor_type or ()), now, note=version_note, promote=promote
    ):
        if isinstance(result, str):
            skipped[name] = result
        else:
            trained.append(result)
        if not as_json:
            typer.echo(f"{name}: {result if isinstance(result, str) else _told(result)}")
    if as_json:
        facts = {"readings": fold.readings, "repeats": fold.repeats, "skipped": skipped}
        typer.echo(json.dumps({"command": "train", **facts, "trained": [facts_of(record) for record in trained]}))
    else:
        typer.echo(f"{len(trained)} versions of {fold.readings} readings")
    if not trained:
        raise typer.Exit(1)


def _told(record: ModelVersion) -> str:
    rate, agreement = record.metric("alarm_rate"), record.metric("agreement")
    parts = [f"{record.version} {record.status.value.lower()}", f"{record.training_rows} readings"]
    if rate is not None:
        parts.append(f"alarms on {rate:.2%} of those held out")
    if agreement is not None:
        parts.append(f"agrees with the one in force on {agreement:.0%} of the strange ones")
    return ", ".join(parts)


def _collect(
    settings: Settings,
    recorded: Path | None,
    csv: Path | None,
    mapping: Path | None,
    span: tuple[datetime | None, datetime | None],
    *,
    shown: bool,
) -> SampleFold:
    import tempfile
    from pathlib import Path

    from fleetwatch.cli.progress import progress
    from fleetwatch.model_catalogue import FALLBACK
    from fleetwatch.recording.reader import Recording
    from streams import training_history
    from streams.training_sample import SampleFold

    fold = SampleFold(settings.warm_up_readings, wanted=lambda name: name != FALLBACK)
    with tempfile.TemporaryDirectory(prefix="fleetwatch-train-") as folder:
        if csv is not None and mapping is not None:
            from producers import typed_yaml
            from producers.import_files import Mapping, import_file

            recorded = Path(folder) / "imported"
            import_file(csv, "csv", typed_yaml.load(mapping, Mapping), recorded)
        if recorded is None:
            total = training_history.count_in_database(settings.database_url, *span)
            history = training_history.from_database(settings.database_url, *span)
        else:
            recording = Recording(recorded)
            total = recording.events(["fleet.readings"])
            history = training_history.from_recording(recording, *span, round(settings.max_skew_seconds * 1000))
        with progress("reading", total, shown=shown) as advance:
            for readings, count in history:
                fold.add(readings)
                advance(count)
    return fold


def list_(
    sensor_type: Annotated[str | None, typer.Option(help="Only this type.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the versions of each sensor type, and how shadows compare with the one in force."""
    catalogue = _desk().catalogue
    wanted = [name for name in catalogue.sensor_types if sensor_type in {None, name}]
    if as_json:
        models = [facts for name in wanted for facts in _facts(catalogue, name)]
        typer.echo(json.dumps({"command": "models list", "models": models}))
        return
    from rich.console import Console
    from rich.table import Table

    titles = (
        "type",
        "version",
        "status",
        "trained on",
        "readings",
        "compared",
        "agreement",
        "alarms",
        "beside",
        "note",
    )
    table = Table(*titles)
    for name in wanted:
        for facts in _facts(catalogue, name):
            compared = facts["compared"] or {}
            table.add_row(
                name,
                facts["version"],
                facts["status"].lower(),
                _days(facts),
                str(facts["training_rows"]),
                str(compared.get("readings", "")),
                f"{compared['agreement']:.0%}" if compared else "",
                f"{compared['alarm_rate']:.2%}" if compared else "",
                f"{compared['alarm_rate_against']:.2%}" if compared else "",
                facts["note"],
            )
    Console(highlight=False).print(table)


def _facts(catalogue: Catalogue, sensor_type: str) -> Iterator[dict[str, Any]]:
    from streams.model_files import facts_of

    for record in catalogue.versions(sensor_type):
        compared = catalogue.compared(sensor_type, record.version)
        found = None
        if compared is not None:
            found = {
                "against": compared.against,
                "readings": compared.readings,
                "agreement": compared.agreement,
                "difference": compared.difference,
                "alarm_rate": compared.alarm_rate,
                "alarm_rate_against": compared.alarm_rate_against,
            }
        yield facts_of(record) | {"compared": found}


def _days(facts: dict[str, Any]) -> str:
    first, last = facts["training_from"], facts["training_until"]
    return f"{first[:10]} to {last[:10]}" if first and last else ""


def promote(
    sensor_type: SensorType,
    version: Annotated[str, typer.Argument(help="As `models list` shows it.")],
    force: Annotated[bool, typer.Option("--force", help="Whatever the comparison says.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a version in force; workers change over with their next checkpoint. Exit code 1: it stays as it is."""
    _change(sensor_type, version, force=force, as_json=as_json)


def rollback(sensor_type: SensorType, as_json: AsJson = False) -> None:
    """Put the version before in force again. Exit code 1: there is none."""
    _change(sensor_type, None, force=False, as_json=as_json)


def _change(sensor_type: str, version: str | None, *, force: bool, as_json: bool) -> None:
    from datetime import UTC, datetime

    from streams.model_desk import StaysError
    from streams.model_files import facts_of

    command = "models rollback" if version is None else "models promote"
    desk, now = _desk(), datetime.now(UTC).replace(microsecond=0)
    try:
        if version is None:
            record = desk.rollback(sensor_type, now)
        else:
            record = desk.promote(sensor_type, version, now, force=force)
    except StaysError as reason:
        if as_json:
            typer.echo(json.dumps({"command": command, "ok": False, "reason": str(reason)}))
        else:
            typer.echo(str(reason), err=True)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps({"command": command, "ok": True, "model": facts_of(record)}))
    else:
        typer.echo(f"{sensor_type} {record.version} is in force from the workers' next checkpoint on")


def _desk() -> ModelDesk:
    from streams.model_desk import ModelDesk

    return ModelDesk(_settings())


def _settings() -> Settings:
    from fleetwatch.logs import configure_logs
    from fleetwatch.settings import load_settings

    settings = load_settings()
    configure_logs(level=settings.log_level)
    return settings


def _time(option: str, text: str | None) -> datetime | None:
    from datetime import UTC, datetime

    from fleetwatch.errors import EnvironmentProblemError

    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise EnvironmentProblemError(f"{option} {text}: not a time such as 2026-01-31T12:00:00Z") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
