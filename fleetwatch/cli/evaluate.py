"""``fleetwatch evaluate``: how well the engine detects, on labelled data and on simulated faults."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads it at run time
from typing import Annotated, Any

import typer

Detectors = Annotated[
    list[str] | None,
    typer.Option(
        "--detector",
        help="Detector that votes, instead of the shipped choice; may be repeated: adaptive, deviation, "
        "half-space-trees, isolation-forest, multivariate, or any of River's by name, such as "
        "river:anomaly.OneClassSVM (slow: tens of microseconds to milliseconds an event).",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def add_to(app: typer.Typer) -> None:
    """Register the command group."""
    group = typer.Typer(
        help="Measure detection: labelled data or simulated faults go through the production engine, in this process.",
        no_args_is_help=True,
    )
    app.add_typer(group, name="evaluate")
    group.command()(nab)
    group.command()(skab)
    group.command()(scenario)


def nab(
    folder: Annotated[Path, typer.Argument(help="Folder with data/ and labels/combined_windows.json.")],
    detector: Detectors = None,
    as_json: AsJson = False,
) -> None:
    """Score the engine on series of the Numenta Anomaly Benchmark, at the best and at the shipped threshold."""
    from streams.evaluation import nab as benchmark

    voters = _voters(detector)
    report = benchmark.evaluate(benchmark.load(folder), voters=voters).as_json()
    if as_json:
        _print_json(report)
        return
    for name, score in report["profiles"].items():
        at = report["best_strictness"][name]
        typer.echo(
            f"{name:10} {score:6.2f} (strictness {at:+.1f})   {report['at_default_threshold'][name]:6.2f} shipped"
        )
    for name, file in report["files"].items():
        found = f"{file['found']} of {file['windows']} windows"
        typer.echo(f"{name:60} {found:16} {len(file['detections'])} detections")


def skab(
    folder: Annotated[Path, typer.Argument(help="Folder with data/valve1/0.csv and the like.")],
    detector: Detectors = None,
    as_json: AsJson = False,
) -> None:
    """Score the engine on runs of the Skoltech Anomaly Benchmark: F1, false alarm rate, missed alarm rate, by rows."""
    from streams.evaluation import skab as benchmark

    voters = _voters(detector)
    report = benchmark.evaluate(benchmark.load(folder), voters=voters).as_json()
    if as_json:
        _print_json(report)
        return
    typer.echo(f"F1 {report['f1']:.3f}   false alarms {report['far']:.1%}   missed {report['mar']:.1%}")
    for name, run in report["files"].items():
        typer.echo(f"{name:12} " + "   ".join(f"{value:5} {what.replace('_', ' ')}" for what, value in run.items()))


def scenario(
    name_or_file: Annotated[str, typer.Argument(metavar="FILE", help="A shipped scenario's name, or a YAML file.")],
    hours: Annotated[float, typer.Option(min=0.01, help="Simulated time.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Same seed: same events.")] = 1,
    detector: Detectors = None,
    as_json: AsJson = False,
) -> None:
    """Compare the alerts about a simulated fleet with the faults that were injected: recall, precision, delay."""
    from dataclasses import replace

    from fleetwatch.settings import load_settings
    from producers.encode import encoded_until
    from producers.simulate.scenario import load_scenario
    from producers.simulate.simulation import simulate
    from streams.evaluation import scenario as evaluation
    from streams.worker import lane_settings

    chosen, settings = load_scenario(name_or_file), load_settings()
    engine = lane_settings(settings)
    if detector:
        engine = replace(engine, tunings=engine.tunings.model_copy(update={"detectors": _voters(detector)}))
    until_ms = _START_MS + round(hours * 3_600_000)
    report = evaluation.run(
        encoded_until(simulate(chosen, seed=seed, start_ms=_START_MS), until_ms),
        engine,
        until_ms=until_ms,
        devices=sum(chosen.sensors.values()) + chosen.cameras,
        training_sample=settings.training_sample,
    )
    found = report.as_json()
    if as_json:
        _print_json({"scenario": chosen.name, "seed": seed, "hours": hours, **found})
        return
    for kind, result in found.pop("kinds").items():
        delay = (
            "" if result["delay_p50"] is None else f"after {result['delay_p50']:g} s (p90 {result['delay_p90']:g} s)"
        )
        typer.echo(f"{kind:8} {result['found']:5} of {result['faults']:5} found  {delay}")
    for name, value in found.items():
        typer.echo(f"{name}: {value}")
    for alert in report.examples[:10]:
        typer.echo(f"false alarm: {alert.rule} {alert.started_at:%H:%M:%S} {alert.summary}")


_START_MS = 1_750_000_000_000
"""Simulated time begins there, in June 2025."""


def _voters(names: list[str] | None) -> tuple[str, ...]:
    from fleetwatch.errors import EnvironmentProblemError
    from streams.tuning import VOTERS, check_detector

    for name in names or ():
        try:
            check_detector(name)
        except ValueError as error:
            raise EnvironmentProblemError(f"--detector: {error}") from None
    return tuple(dict.fromkeys(names)) if names else VOTERS


def _print_json(report: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(report))
