"""Trained models on disk."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from structlog.testing import capture_logs

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.records import ModelStatus
from streams.detectors import isolation_forest
from streams.features import COUNT
from streams.registry import ModelRegistry

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def sample(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.5, 0.1, (300, COUNT)).clip(0, 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models of two types."""
    root = tmp_path_factory.mktemp("models")
    registry = ModelRegistry(root)
    registry.train("temperature", sample(1), NOW)
    registry.train("vibration", sample(2), NOW)
    return root


@pytest.fixture
def models(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    root = tmp_path / "models"
    shutil.copytree(trained, root)
    return root


def test_a_model_that_is_loaded_gives_the_same_scores(tmp_path: Path) -> None:
    registry = ModelRegistry(tmp_path / "new" / "models")
    record, active = registry.train("temperature", sample(), NOW)
    loaded = ModelRegistry(tmp_path / "new" / "models").load_active()
    assert loaded.keys() == {"temperature"}
    assert loaded["temperature"].version == active.version == record.version
    x = sample(9)
    assert np.array_equal(loaded["temperature"].forest.score(x), active.forest.score(x))


def test_the_record_says_what_was_trained_and_where(tmp_path: Path) -> None:
    record, _ = ModelRegistry(tmp_path).train("temperature", sample(), NOW)
    assert (record.sensor_type, record.status, record.trained_at, record.training_rows) == (
        "temperature",
        ModelStatus.ACTIVE,
        NOW,
        300,
    )
    assert record.version.startswith("20260504T120000Z-")
    assert (tmp_path / record.location).is_file()
    assert {metric.name for metric in record.metrics} == {"score_mean", "score_p99", "alarm_level"}
    assert all(0 < metric.value < 1 for metric in record.metrics)


def test_the_newest_model_is_the_active_one_and_the_old_one_stays(tmp_path: Path) -> None:
    registry = ModelRegistry(tmp_path)
    old, _ = registry.train("temperature", sample(1), NOW)
    new, _ = registry.train("temperature", sample(2), NOW + timedelta(hours=1))
    assert registry.load_active()["temperature"].version == new.version
    assert (tmp_path / old.location).is_file()
    assert not list(tmp_path.rglob(".*"))  # nothing half-written stays behind


def test_an_empty_folder_has_no_models(tmp_path: Path) -> None:
    assert ModelRegistry(tmp_path).load_active() == {}


def damage_model(folder: Path) -> None:
    (path,) = folder.glob("*.skops")
    path.write_bytes(path.read_bytes()[:-100])


def flip_bytes(folder: Path) -> None:
    (path,) = folder.glob("*.skops")
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(200)
    path.write_bytes(content)


def empty_model(folder: Path) -> None:
    (path,) = folder.glob("*.skops")
    path.write_bytes(b"")


def remove_model(folder: Path) -> None:
    (path,) = folder.glob("*.skops")
    path.unlink()


def describe(folder: Path, **changes: object) -> None:
    path = folder / "active.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def another_object(folder: Path) -> None:
    import skops.io

    (path,) = folder.glob("*.skops")
    skops.io.dump({"not": "a model"}, path)


def a_pickle(folder: Path) -> None:
    import pickle

    (path,) = folder.glob("*.skops")
    path.write_bytes(pickle.dumps([1, 2, 3]))


DAMAGE = {
    "cut off": damage_model,
    "bytes flipped": flip_bytes,
    "empty": empty_model,
    "gone": remove_model,
    "another object": another_object,
    "a pickle": a_pickle,
    "description cut off": lambda folder: (folder / "active.json").write_text("{"),
    "description of nothing": lambda folder: (folder / "active.json").write_text("[]"),
    "description without fields": lambda folder: (folder / "active.json").write_text("{}"),
    "description that is no text": lambda folder: (folder / "active.json").write_bytes(b"\xff\xfe\x80"),
    "other features": lambda folder: describe(folder, features=["value", "colour"]),
    "location that is a number": lambda folder: describe(folder, location=7),
    "location outside the folder": lambda folder: describe(folder, location="../../elsewhere.skops"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_model_is_said_and_left_out_and_the_others_load(models: Path, damage) -> None:
    damage(models / "temperature")
    with capture_logs() as logs:
        assert ModelRegistry(models).load_active().keys() == {"vibration"}
    assert [(line["event"], line["log_level"]) for line in logs] == [("model_ignored", "warning")]
    assert "temperature" in str(logs) or "2026" in str(logs)


ODD = ["../x", "/etc/passwd", "..", ".", "", "ü", "a/b", "a\\b", "nul\x00", "x" * 300, "temp.C", "温度", "con", "a b\n"]


def test_sensor_types_with_odd_names_stay_inside_the_folder_and_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation_forest, "N_TREES", 2)
    root = tmp_path / "deep" / "models"
    registry = ModelRegistry(root)
    records = [registry.train(name, sample(number)[:20], NOW)[0] for number, name in enumerate(ODD)]
    places = {record.location for record in records}
    assert len(places) == len(ODD)
    for record in records:
        path = (root / record.location).resolve()
        assert path.is_relative_to(root.resolve())
        assert path.parent.parent == root.resolve()
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["models"]
    assert registry.load_active().keys() == set(ODD)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblemError, match="FLEETWATCH_MODELS_DIR") as caught:
        ModelRegistry(tmp_path / "file" / "models")
    assert "\n" not in str(caught.value)


def test_of_two_workers_that_train_at_the_same_time_the_first_ones_model_counts(tmp_path: Path) -> None:
    one, other = ModelRegistry(tmp_path), ModelRegistry(tmp_path)
    first, active = one.train_first("temperature", sample(1), NOW)
    second, same = other.train_first("temperature", sample(2), NOW + timedelta(seconds=1))
    assert second == first
    assert same.version == active.version == ModelRegistry(tmp_path).load_active()["temperature"].version
    assert np.array_equal(same.forest.score(sample(9)), active.forest.score(sample(9)))
    assert not list(tmp_path.glob("*/.*"))


def test_a_first_model_replaces_one_that_cannot_be_used(models: Path) -> None:
    description = models / "temperature" / "active.json"
    description.write_text("{")
    record, _ = ModelRegistry(models).train_first("temperature", sample(3), NOW + timedelta(hours=1))
    assert ModelRegistry(models).load_active()["temperature"].version == record.version
