"""The streaming engine beside its peers: the same job, each in an environment of its own, events per CPU-second.

``setup`` makes the environments, ``run`` measures (and makes those that are missing). ``fleetwatch bench`` calls
``run``. docs/benchmarks.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import edges, figures, latency, lineup, memory, report
from bench.environments import is_set_up, needs_environment, setup
from bench.measure import ROOT, BenchError, Contestant
from bench.rounds import new_fleet, run_rounds, say

PARTS = ("rounds", "latency", "memory", "stages", "growth")
USUAL_PARTS = PARTS[:-1]
LANE_ROUNDS = 2


def lane_stages() -> dict[str, figures.Rate]:
    """What happens between consuming and producing, from bench/lane.py in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="fleetwatch-bench-") as folder:
        target = Path(folder) / "lane.json"
        command = [sys.executable, "-m", "bench.lane", "--rounds", str(LANE_ROUNDS), "--json", str(target)]
        done = subprocess.run(command, check=False, cwd=ROOT, stdout=subprocess.DEVNULL)
        if done.returncode != 0:
            raise BenchError("bench/lane.py failed")
        return {name: figures.Rate(**rate) for name, rate in json.loads(target.read_text(encoding="utf-8")).items()}


def stages(kind: str, result: dict[str, Any]) -> dict[str, Any]:
    """Every stage on its own, in the order of the work, and the worker with all of it from the rounds."""
    ends, inner = edges.measure(kind), lane_stages()
    found = report.of_stages({"consume": ends["consume"]} | inner | {"produce": ends["produce"]})
    for name, title in ((figures.OURS, "all"), (figures.BOTH, "all, both models")):
        if name in result.get("contestants", {}):
            found[title] = {
                "per_cpu_second": result["contestants"][name],
                "per_second": result["per_second"][name],
            }
    return found


def measure(options: argparse.Namespace, chosen: list[Contestant]) -> dict[str, Any]:
    """Do the chosen parts; the JSON form of what they gave."""
    result: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "broker": options.broker,
        "devices": options.devices,
    }
    wrong: list[str] = []
    if "rounds" in options.parts:
        fleet = new_fleet(options.devices, options.per_second)
        rounds = run_rounds(options.broker, chosen, fleet, rounds=options.rounds, seconds=options.seconds)
        result |= report.of_rounds(rounds.per_cpu_second, rounds.per_second) | {"facts": rounds.facts}
        wrong = rounds.wrong
    if "latency" in options.parts:
        result["latency_ms"] = {}
        for one in chosen:
            if one.name in (figures.OURS, figures.HAND_LOOP):
                say(f"latency of {one.name}")
                highest = result.get("per_second", {}).get(one.name)
                result["latency_ms"][one.name] = latency.measure(options.broker, one, options.devices, highest)
    if "memory" in options.parts:
        result["memory"] = memory.measure(
            options.broker, options.per_second, rounds=options.memory_rounds, seconds=options.seconds
        )
    if "stages" in options.parts:
        say("stages")
        result["stages"] = stages(options.broker, result)
    if "growth" in options.parts:
        say("growth of memory")
        result["growth"] = memory.growth(options.broker, options.devices, options.per_second)
    result["wrong"] = wrong
    return result


def choose(everyone: dict[str, Contestant], only: str | None) -> list[Contestant]:
    """Return who takes part, with environments made.

    Raises:
        BenchError: one is not known, or cannot be installed.

    """
    names = only.split(",") if only else list(everyone)
    unknown = [name for name in names if name not in everyone]
    if unknown:
        raise BenchError(f"no such contestant: {', '.join(unknown)}; there are {', '.join(everyone)}")
    missing = [name for name in names if needs_environment(name) and not is_set_up(name)]
    failed = setup(tuple(missing))
    if failed:
        raise BenchError(f"cannot be installed: {', '.join(failed)}. The comparison needs all of them.")
    return [everyone[name] for name in names]


def run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fleetwatch-bench-models-") as folder:
        chosen = choose(lineup.contestants(Path(folder)), options.only)
        if any(one.name == figures.BOTH for one in chosen):
            lineup.train_models(Path(folder))
        result = measure(options, chosen)
    result["seconds"] = round(time.monotonic() - began)
    say(report.table(result))
    say(f"took {result['seconds']} s")
    text = json.dumps(result, indent=1)
    if options.json:
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    else:
        print(text)
    return 1 if result["wrong"] else 0


def parts_of(text: str) -> list[str]:
    chosen = text.split(",")
    if not set(chosen) <= set(PARTS):
        raise argparse.ArgumentTypeError(f"parts are {', '.join(PARTS)}")
    return chosen


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("setup", help="make the contestants' environments in bench/.envs")
    runner = commands.add_parser("run", help="measure, print a table to standard error and JSON to standard output")
    runner.add_argument("--json", metavar="FILE", help="write the JSON there instead")
    runner.add_argument(
        "--parts", type=parts_of, default=list(USUAL_PARTS), help=f"comma separated: {', '.join(PARTS)}"
    )
    runner.add_argument("--rounds", type=int, default=3)
    runner.add_argument("--memory-rounds", type=int, default=1)
    runner.add_argument("--only", metavar="NAMES", help="contestants, comma separated")
    runner.add_argument("--broker", choices=("embedded", "kafka"), default="embedded")
    runner.add_argument("--devices", type=int, default=1000)
    runner.add_argument("--per-second", type=float, default=5, help="readings a second of each device")
    runner.add_argument("--seconds", type=float, default=3.0, help="how long each measurement lasts once warm")
    options = parser.parse_args(arguments)
    if options.command == "setup":
        failed = setup()
        if failed:
            say(f"cannot be installed: {', '.join(failed)}. The comparison needs all of them.")
        return 1 if failed else 0
    try:
        return run(options)
    except BenchError as error:
        say(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
