"""``fleetwatch replay`` and ``fleetwatch compare``: a recording again, and what a change would have made of it."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003  # typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fleetwatch.recording.reader import Recording
    from producers.replay_recording import Options
    from streams.replay.compare import Comparison

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("replay")(replay)
    app.command("compare")(compare)


def replay(
    folder: Annotated[Path, typer.Argument(help="The recording.")],
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Straight through the engine, without a broker; needs --out.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="With --in-process: a new folder for the results.")] = None,
    rules: Annotated[
        Path | None, typer.Option(help="With --in-process: rules to judge by; FLEETWATCH_RULES_FILE if unset.")
    ] = None,
    detection: Annotated[
        Path | None, typer.Option(help="With --in-process: how to detect; FLEETWATCH_DETECTION_FILE if unset.")
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(help="With --in-process: a model version, or 'active'; may be given again. None if unset."),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="With --in-process: events folded in at once. Changes no result.")
    ] = 20_000,
    scores: Annotated[bool, typer.Option("--scores", help="With --in-process: keep every score.")] = False,
    to: Annotated[
        str | None, typer.Option(help="Prefix of the topics to write to, such as 'what-if.'; '' for the same topics.")
    ] = None,
    topics: Annotated[
        str, typer.Option(help="With --to: recorded topics, comma separated; all that are not derived if unset.")
    ] = "",
    speed: Annotated[str, typer.Option(help="With --to: a factor, or max.")] = "1",
    shift_time: Annotated[
        str | None, typer.Option(help="With --to: 'now' moves all times so that the first event happens now.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="With --to: from the start, even if some of it is there already.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Replay a recording: into topics of a broker (--to), or straight through the engine (--in-process).

    In-process only event time and the recording's own clock count: the same recording gives the same bytes.
    Into topics, keys, partitions and order are as recorded; a replay that was interrupted goes on where it was.
    """
    from fleetwatch.errors import EnvironmentProblemError
    from fleetwatch.recording.reader import Recording

    recording = Recording(folder)
    if in_process:
        if out is None:
            raise EnvironmentProblemError("replay --in-process: give a folder for the results: --out DIR")
        changes = {"rules_file": rules, "detection_file": detection}
        _in_process(recording, out, changes, models or [], batch_size, with_scores=scores, as_json=as_json)
        return
    if to is None:
        raise EnvironmentProblemError("replay: say where to: --in-process --out DIR, or --to PREFIX")
    from producers.replay_recording import Options

    names = tuple(dict.fromkeys(name.strip() for name in topics.split(",") if name.strip()))
    if shift_time not in (None, "now"):
        raise EnvironmentProblemError(f"--shift-time {shift_time}: only 'now' is known")
    options = Options(to, names, _speed(speed), shift_to_now=shift_time == "now", again=again)
    _to_topics(recording, options, as_json=as_json)


def _speed(text: str) -> float | None:
    from fleetwatch.errors import EnvironmentProblemError

    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0.001 <= speed <= 1_000_000:
        raise EnvironmentProblemError(f"--speed {text}: give a factor such as 1 or 60, or max")
    return speed


def _to_topics(recording: Recording, options: Options, *, as_json: bool) -> None:
    from dataclasses import asdict

    from fleetwatch.cli.progress import progress
    from fleetwatch.logs import configure_logs
    from fleetwatch.service import Service
    from fleetwatch.settings import load_settings
    from producers.replay_recording import chosen_topics
    from producers.replay_recording import replay as run

    settings = load_settings()
    configure_logs(level=settings.log_level, json=settings.log_format == "json", service="replay")
    total = recording.events(chosen_topics(recording, options.topics))
    with (
        Service("replay", host=settings.http_host, port=settings.http_port) as service,
        progress("replaying", total, shown=not as_json) as advance,
    ):
        totals = run(settings, service, recording, options, advance)
    if as_json:
        typer.echo(json.dumps({"command": "replay"} | asdict(totals)))
    else:
        before = f", {totals.before} were there before" if totals.before else ""
        left = f", {totals.left} are left" if totals.left else ""
        typer.echo(f"{totals.replayed} events in {totals.seconds:.1f} s{before}{left}")
    if totals.failed:
        raise typer.Exit(1)


def compare(
    left: Annotated[Path, typer.Argument(help="Results of a replay.")],
    right: Annotated[Path, typer.Argument(help="Results of a replay of the same recording with something changed.")],
    within: Annotated[
        float, typer.Option(min=0, help="Seconds that an alert may begin earlier or later and be the same one.")
    ] = 60.0,
    html: Annotated[Path | None, typer.Option(help="Write a report with plots to this file.")] = None,
    fail_on_diff: Annotated[bool, typer.Option("--fail-on-diff", help="Exit code 1 when anything differs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what changed between the alerts of two replays: appeared, vanished, earlier, later, severity, end."""
    from fleetwatch.errors import EnvironmentProblemError
    from streams.replay.compare import compare as differ
    from streams.replay.compare import load

    comparison = differ(load(left), load(right), within_ms=round(within * 1000))
    if html is not None:
        from streams.replay.report import html as page

        try:
            html.write_text(page(comparison), encoding="utf-8")
        except OSError as error:
            raise EnvironmentProblemError(f"cannot write {html}: {error.strerror}") from None
    if as_json:
        typer.echo(json.dumps(comparison.as_dict()))
    else:
        _show(comparison)
    if fail_on_diff and comparison.differences:
        raise typer.Exit(1)


def _show(comparison: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table

    from streams.replay.report import time_of

    facts = comparison.as_dict()
    console = Console(highlight=False)
    counts = Table(title="alerts", title_justify="left")
    for title in ("rule", comparison.left.name, comparison.right.name):
        counts.add_column(title, justify="left" if title == "rule" else "right", overflow="fold")
    for name, pair in comparison.by_rule.items():
        counts.add_row(name, *map(str, pair))
    for label, field in (("precision", "precision"), ("recall", "recall"), ("by feedback", "precision_by_feedback")):
        known = [getattr(quality, field) for quality in comparison.quality]
        if any(number is not None for number in known):
            counts.add_row(label, *("" if number is None else f"{number:.3f}" for number in known))
    console.print(counts)
    if comparison.differences:
        table = Table(title="differences", title_justify="left")
        for title in ("what", "rule", "device", "severity", "began (UTC)", "by"):
            table.add_column(title, overflow="fold")
        for one in comparison.differences[:200]:
            shift = f"{one.shift_ms / 1000:+.1f} s" if one.shift_ms else ""
            alert = one.shown
            table.add_row(one.kind, alert.rule, alert.device_id, alert.severity, time_of(alert.started_ms), shift)
        console.print(table)
    summary = ", ".join(f"{count} {kind}" for kind, count in facts["differences"].items() if count)
    typer.echo(f"{comparison.same} alerts are the same; {summary or 'no difference'}")


def _in_process(  # what the options say
    recording: Recording,
    out: Path,
    changes: dict[str, Path | None],
    models: list[str],
    batch_size: int,
    *,
    with_scores: bool,
    as_json: bool,
) -> None:
    from fleetwatch.cli.progress import progress
    from fleetwatch.logs import configure_logs
    from fleetwatch.settings import load_settings
    from streams.replay.run import run

    settings = load_settings()
    settings = settings.model_copy(update={name: path for name, path in changes.items() if path is not None})
    configure_logs(level=settings.log_level, json=settings.log_format == "json", service="replay")
    with progress("replaying", recording.events(), shown=not as_json) as advance:
        done = run(
            recording, settings, out, models=models, batch_size=batch_size, with_scores=with_scores, advance=advance
        )
    counters = done.facts["counters"]
    if as_json:
        typer.echo(
            json.dumps(
                {"command": "replay", "events": done.events, "seconds": round(done.seconds, 3), "counters": counters}
            )
        )
        return
    typer.echo(f"{done.events} events in {done.seconds:.1f} s ({done.events / max(done.seconds, 1e-9):,.0f}/s): {out}")
    for name, count in sorted(counters.items()):
        typer.echo(f"  {name:20} {count}")
