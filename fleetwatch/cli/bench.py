"""``fleetwatch bench``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class BenchBroker(StrEnum):
    """The brokers that a measurement can start for itself."""

    EMBEDDED = "embedded"
    KAFKA = "kafka"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("bench")(bench)


def bench(
    out: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there; to the output if unset.")
    ] = None,
    broker: Annotated[
        BenchBroker, typer.Option(help="Start the embedded broker or a real Apache Kafka.")
    ] = BenchBroker.EMBEDDED,
    rounds: Annotated[int, typer.Option(min=1, help="How often every contestant takes its turn.")] = 3,
    only: Annotated[
        str | None, typer.Option(help="Some contestants, comma separated, such as ours,hand_tuned.")
    ] = None,
    parts: Annotated[
        str, typer.Option(help="What to measure, comma separated; growth is the memory over ten million events.")
    ] = "rounds,latency,memory,stages",
) -> None:
    """Measure the worker beside other ways to do its job: events per CPU-second, latency, memory, cost by stage.

    The table and the progress go to standard error. What is missing of the contestants' environments is installed
    first (about 2 GB in bench/.envs). docs/benchmarks.md says what is measured and how. Exit code 1: a contestant
    cannot be installed, or does not do its work, or writes something else than it must.
    """
    import os
    import sys

    import fleetwatch
    from fleetwatch.errors import EnvironmentProblemError

    root = Path(fleetwatch.__file__).resolve().parents[1]
    if not (root / "bench" / "peers.py").is_file():
        raise EnvironmentProblemError(f"benchmarks need a checkout of the project: there is no {root / 'bench'}")
    command = [sys.executable, "-m", "bench.peers", "run", "--broker", broker]
    command += ["--rounds", str(rounds), "--parts", parts]
    if out is not None:
        command += ["--json", str(out.resolve())]
    if only is not None:
        command += ["--only", only]
    os.chdir(root)
    os.execv(sys.executable, command)  # noqa: S606  # in our place: signals must reach it
