"""Who takes part: the contestants, their programs and their environments."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from bench import feed, figures
from bench.environments import env_bin
from bench.measure import Contestant

NO_TRAINING = {"FLEETWATCH_TRAINING_FIRST": "false"}
"""A model must not come into force in the middle of a measurement: its training would be measured."""
WORKER = (str(Path(sys.executable).with_name("fleetwatch")), "worker")


def ours(name: str = figures.OURS, **environment: str) -> Contestant:
    """Return the worker as users start it, without training."""
    return Contestant(name, WORKER, 160_000, 100_000, NO_TRAINING | environment, is_ours=True)


def contestants(models: Path) -> dict[str, Contestant]:
    """All of them. ``ahead`` and ``warm`` are some two seconds of a contestant's work."""
    faust = (env_bin("faust", "faust"), "-A", "faust_job", "worker", "-l", "warn", "--without-web")
    bytewax = (env_bin("bytewax"), "-m", "bytewax.run", "bytewax_job:flow")
    listed = (
        ours(),
        ours(figures.BOTH, FLEETWATCH_MODELS_DIR=str(models)),
        Contestant("hand_tuned", (env_bin("hand_tuned"), "hand_tuned.py"), 160_000, 100_000),
        Contestant("faust", faust, 5_000, 2_500),
        Contestant("bytewax", bytewax, 60_000, 30_000),
        Contestant("quix", (env_bin("quix"), "quix_job.py"), 80_000, 30_000),
        Contestant(
            "pathway", (env_bin("pathway"), "pathway_job.py"), 120_000, 40_000, counts_apart=True, in_bursts=True
        ),
        Contestant("hand_river", (env_bin("hand_river"), "hand_river.py"), 80_000, 40_000, once=True),
        Contestant(figures.FLOOR, (env_bin(figures.FLOOR, "c_floor"),), 500_000, 200_000),
    )
    return {one.name: one for one in listed}


def train_models(folder: Path) -> None:
    """Make an IsolationForest for each sensor type, as the worker would train it."""
    import numpy as np  # noqa: PLC0415  # heavy, and only one contestant needs it

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
