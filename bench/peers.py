"""The streaming engine beside its peers: the same job, each in an environment of its own, events per CPU-second.

``python bench/peers.py setup`` makes the environments, ``run`` measures. docs/benchmarks.md says what and how.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import check
import feed
import figures
import latency
from measure import ENVS, HERE, ROOT, BenchError, Contestant, broker, make_topics, work_off

if TYPE_CHECKING:
    from collections import Counter

LANE_ROUNDS = 3
ENVIRONMENTS = ("faust", "quix", "bytewax", "hand_river", "hand_tuned")
NO_TRAINING = {"FLEETWATCH_TRAINING_SAMPLE": str(10**9)}


def env_bin(name: str, program: str = "python") -> str:
    return str(ENVS / name / "bin" / program)


def contestants(models: Path) -> dict[str, Contestant]:
    """All of them. Slow ones get fewer events; ``warm`` leaves start, join and compilation out."""
    worker = (str(Path(sys.executable).with_name("fleetwatch")), "worker")
    both = NO_TRAINING | {"FLEETWATCH_MODELS_DIR": str(models)}
    faust = (env_bin("faust", "faust"), "-A", "faust_job", "worker", "-l", "warn", "--without-web")
    bytewax = (env_bin("bytewax"), "-m", "bytewax.run", "bytewax_job:flow")
    listed = (
        Contestant(figures.OURS, worker, 360_000, 60_000, NO_TRAINING, is_ours=True),
        Contestant(figures.BOTH, worker, 360_000, 60_000, both, is_ours=True),
        Contestant("hand_tuned", (env_bin("hand_tuned"), "hand_tuned.py"), 360_000, 60_000),
        Contestant("hand_river", (env_bin("hand_river"), "hand_river.py"), 200_000, 20_000),
        Contestant("bytewax", bytewax, 200_000, 20_000),
        Contestant("quix", (env_bin("quix"), "quix_job.py"), 150_000, 20_000),
        Contestant("faust", faust, 40_000, 2_000),
    )
    return {one.name: one for one in listed}


# --- setup ---


def fingerprint(name: str) -> str:
    text = (HERE / "contestants" / f"{name}.txt").read_text(encoding="utf-8")
    return hashlib.sha256((text + sys.version).encode()).hexdigest()


def is_set_up(name: str) -> bool:
    marker = ENVS / name / ".done"
    return marker.is_file() and marker.read_text(encoding="utf-8") == fingerprint(name)


def setup(names: tuple[str, ...]) -> list[str]:
    """Make the environments that are missing or of other versions; return the names that failed."""
    failed = []
    for name in names:
        if is_set_up(name):
            continue
        print(f"setting up {name}", flush=True)
        requirements = HERE / "contestants" / f"{name}.txt"
        commands = (
            [sys.executable, "-m", "venv", "--clear", str(ENVS / name)],
            [env_bin(name), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)],
        )
        if all(subprocess.run(command, check=False).returncode == 0 for command in commands):
            (ENVS / name / ".done").write_text(fingerprint(name), encoding="utf-8")
        else:
            failed.append(name)
    return failed


def train_models(folder: Path) -> None:
    """An IsolationForest for each sensor type, as the worker would train it."""
    import numpy as np  # noqa: PLC0415  # heavy, and `setup` needs none of it

    from streams import features  # noqa: PLC0415
    from streams.registry import ModelRegistry  # noqa: PLC0415

    devices, readings = 40, 4000
    rows = np.arange(readings) % devices
    values = np.random.default_rng(0).normal(20, 2, readings)
    seen, stats = np.zeros(devices, np.int64), np.zeros((devices, features.WIDTH))
    found, seen_before = features.fold_features(rows, values, seen, stats)
    sample = features.squash(found)[seen_before >= 40][:1500]
    registry = ModelRegistry(folder)
    for kind, _ in feed.KINDS:
        registry.train(kind, sample, datetime.now(UTC).replace(microsecond=0))


# --- run ---


def measure_once(
    kind: str,
    contestant: Contestant,
    bodies: list[tuple[bytes, bytes]],
    seconds: float,
    truth: Counter[tuple[str, int]] | None,
) -> tuple[float, dict[str, Any]]:
    """Return events per CPU-second, and the facts of it."""
    with broker(kind) as settings:
        make_topics(settings, contestant)
        feed.produce_all(settings, bodies[: contestant.events])
        outcome = work_off(settings, contestant, seconds=seconds)
        points = [(records, cpu) for records, cpu, _ in outcome.samples]
        found = figures.rate(points, contestant.warm, contestant.events)
        if found is None:
            raise BenchError(f"{contestant.name}: nothing was measured")
        facts = outcome.facts | {"rss_mb": outcome.rss_bytes >> 20, "events": points[-1][0]}
        if truth is not None:
            facts["check"] = check.outputs(settings, contestant, truth)
        return found, facts


def run_rounds(options: argparse.Namespace, chosen: list[Contestant]) -> tuple[list[dict[str, float]], dict[str, Any]]:
    bodies, truth = feed.Fleet(options.devices, options.per_second).backlog(max(one.events for one in chosen))
    rounds: list[dict[str, float]] = []
    facts: dict[str, Any] = {}
    for number in range(options.rounds):
        results: dict[str, float] = {}
        first = number * 2 % len(chosen)
        for one in chosen[first:] + chosen[:first]:
            is_checked = number == 0 and one.name in (figures.OURS, figures.BOTH, "hand_tuned")
            results[one.name], found = measure_once(
                options.broker, one, bodies, options.seconds, truth if is_checked else None
            )
            facts.setdefault(one.name, found)
            print(f"round {number + 1}  {one.name:18} {results[one.name]:>10,.0f} events per CPU-second", flush=True)
        rounds.append(results)
    return rounds, facts


def lane_stages() -> dict[str, float]:
    """Events per CPU-second by stage, from bench/lane.py."""
    with tempfile.TemporaryDirectory(prefix="fleetwatch-bench-") as folder:
        target = Path(folder) / "lane.json"
        command = [sys.executable, str(HERE / "lane.py"), "--rounds", str(LANE_ROUNDS), "--json", str(target)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, check=False, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        if done.returncode != 0:
            raise BenchError("bench/lane.py failed")
        return json.loads(target.read_text(encoding="utf-8"))["events_per_cpu_second"]


def summary(rounds: list[dict[str, float]]) -> dict[str, Any]:
    """What the JSON has of the rounds."""
    middle = figures.medians(rounds)
    return {
        "all_per_cpu_second": middle.get(figures.OURS),
        "both_models_per_cpu_second": middle.get(figures.BOTH),
        "contestants": {name: round(value) for name, value in middle.items()},
        "ratios": {
            "faust": figures.ratio_of(rounds, ["faust"]),
            "best_peer": figures.ratio_of(rounds, figures.FRAMEWORK_PEERS),
            "hand_loop": figures.ratio_of(rounds, ["hand_tuned"]),
        },
        "rounds": rounds,
    }


def print_table(result: dict[str, Any]) -> None:
    ours = result["all_per_cpu_second"]
    print(f"\n{'contestant':18} {'events per CPU-second':>22} {'ours is':>9}")
    for name, value in sorted(result["contestants"].items(), key=lambda item: -item[1]):
        print(f"{name:18} {value:>22,} {f'{ours / value:.1f} x' if ours else '':>9}")
    for name, ratio in result["ratios"].items():
        print(f"median ratio to {name:12} {'-' if ratio is None else f'{ratio:.2f}'}")
    for name, figure in result.get("latency_ms", {}).items():
        print(f"latency of {name}, ms: " + "  ".join(f"{key} {value}" for key, value in figure.items()))


def run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fleetwatch-bench-models-") as folder:
        everyone = contestants(Path(folder))
        names = options.only.split(",") if options.only else list(everyone)
        unknown = [name for name in names if name not in everyone]
        if unknown:
            print(f"no such contestant: {', '.join(unknown)}; there are {', '.join(everyone)}", file=sys.stderr)
            return 2
        missing = [name for name in names if name in ENVIRONMENTS and not is_set_up(name)]
        if missing:
            print(f"not set up: {', '.join(missing)}. Run `python bench/peers.py setup`.", file=sys.stderr)
            return 1
        if figures.BOTH in names:
            train_models(Path(folder))
        chosen = [everyone[name] for name in names]
        rounds, facts = run_rounds(options, chosen)
        result = summary(rounds) | {"facts": facts, "broker": options.broker, "devices": options.devices}
        if not options.no_latency:
            result["latency_ms"] = {
                one.name: latency.measure(options.broker, one, options.devices, options.rate)
                for one in chosen
                if one.name in (figures.OURS, "hand_tuned")
            }
        if not options.no_stages:
            result["stages"] = lane_stages()
    result["seconds"] = round(time.monotonic() - began)
    print_table(result)
    wrong = [f"{name}: {text}" for name, found in facts.items() for text in found.get("check", {}).get("wrong", [])]
    for line in wrong:
        print(f"WRONG OUTPUT  {line}", file=sys.stderr)
    result["wrong"] = wrong
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("setup", help="make the contestants' environments in bench/.envs")
    runner = commands.add_parser("run", help="measure and print a table")
    runner.add_argument("--json", metavar="FILE", help="write the figures there")
    runner.add_argument("--rounds", type=int, default=3)
    runner.add_argument("--only", metavar="NAMES", help="comma separated")
    runner.add_argument("--broker", choices=("embedded", "kafka"), default="embedded")
    runner.add_argument("--devices", type=int, default=1000)
    runner.add_argument("--per-second", type=int, default=5, help="readings a second of each device")
    runner.add_argument("--seconds", type=float, default=6.0, help="the longest that one measurement lasts once warm")
    runner.add_argument("--rate", type=float, default=1000.0, help="events a second of the latency measurement")
    runner.add_argument("--no-latency", action="store_true")
    runner.add_argument("--no-stages", action="store_true")
    options = parser.parse_args()
    if options.command == "setup":
        failed = setup(ENVIRONMENTS)
        if failed:
            print(f"cannot be installed: {', '.join(failed)}. The comparison needs all of them.", file=sys.stderr)
        return 1 if failed else 0
    try:
        return run(options)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
