"""The benchmarks end to end on the data that is there: what must hold of a detector that is shipped.

The corpora lie beside the repository or where TEST_SHARED_DATA says. Without them only the shipped series are streamed.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from fleetwatch.errors import EnvironmentProblemError
from streams.evaluation import nab, skab

ROOT = Path(__file__).resolve().parents[4]
SHARED = Path(os.environ.get("TEST_SHARED_DATA", ROOT.parent / "shared" / "data"))


def corpus(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not there: set TEST_SHARED_DATA")
    return folder


def test_nab_at_the_shipped_threshold_beats_the_published_best() -> None:
    report = nab.evaluate(nab.load(corpus("nab")), strictness=())
    assert report.default["standard"] >= 78
    assert report.default["low_fp"] >= 65.1
    assert report.default["low_fn"] >= 80.4


def test_skab_beats_the_published_best_at_as_few_false_alarms() -> None:
    report = skab.evaluate(skab.load(corpus("skab")))
    assert report.f1 >= 0.80
    assert report.far <= 0.15


def make_corpus(folder: Path, values: np.ndarray, window: tuple[int, int]) -> Path:
    times = np.datetime64("2026-01-01T00:00:00") + np.arange(len(values)) * np.timedelta64(300, "s")
    (folder / "data" / "made").mkdir(parents=True)
    (folder / "labels").mkdir()
    rows = [f"{str(time).replace('T', ' ')},{value}" for time, value in zip(times, values, strict=True)]
    (folder / "data" / "made" / "a.csv").write_text("timestamp,value\n" + "\n".join(rows) + "\n")
    bounds = [str(times[row]).replace("T", " ") for row in window]
    (folder / "labels" / "combined_windows.json").write_text(json.dumps({"made/a.csv": [bounds], "made/b.csv": []}))
    return folder


def test_a_level_shift_in_a_made_series_is_found_once(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(50, 1, 2000)
    values[1500:1600] += 20
    report = nab.evaluate(nab.load(make_corpus(tmp_path, values, (1490, 1610))), strictness=(0.5,)).as_json()
    assert report["profiles"]["standard"] > 80
    assert report["at_default_threshold"].keys() == report["profiles"].keys() == {"standard", "low_fp", "low_fn"}
    assert report["files"]["made/a.csv"]["found"] == 1


def test_a_folder_that_is_no_corpus_is_said(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblemError, match=r"combined_windows\.json"):
        nab.load(tmp_path)
    with pytest.raises(EnvironmentProblemError, match="no runs"):
        skab.load(tmp_path)
    made = make_corpus(tmp_path / "made", np.zeros(10), (2, 3))
    shutil.rmtree(made / "data")
    with pytest.raises(EnvironmentProblemError, match="no series"):
        nab.load(made)
