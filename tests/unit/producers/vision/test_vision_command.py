from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from fleetwatch.cli import simulate, vision
from fleetwatch.errors import EnvironmentProblemError
from tests.fakes.pedestrians import walk, write_frames
from tests.unit.producers.vision.test_onnx_weights import V8
from tests.unit.producers.vision.yolo_models import write_constant

if TYPE_CHECKING:
    from pathlib import Path

CAMERA = ("--camera-id", "gate-1", "--site", "gate")


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("walk")
    write_frames(folder, 3)
    return folder


def run(*arguments: str) -> list[dict]:
    app = typer.Typer(pretty_exceptions_enable=False)
    simulate.add_to(app)  # with two commands a name is needed, as in the whole command line
    vision.add_to(app)
    result = CliRunner().invoke(app, ["vision", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_dry_run_prints_the_same_events_for_the_same_frames_and_start(frames: Path) -> None:
    arguments = (str(frames), *CAMERA, "--dry-run", "--start", "2026-01-01T00:00:00Z")
    rows = run(*arguments)
    assert rows == run(*arguments)
    assert len(rows) == 3 * len(walk(0))
    assert {row["topic"] for row in rows} == {"fleet.detections"}
    assert sorted({row["event_time"] - 1_767_225_600_000 for row in rows}) == [0, 500, 1000]
    assert len(run(*arguments, "--for", "0.9")) == 2 * len(walk(0))
    assert len(run(*arguments, "--loop", "--for", "2.9")) == 6 * len(walk(0))
    assert len(run(*arguments, "--confidence", "0.999")) == 0


def test_the_source_and_the_camera_can_stand_in_the_environment(frames: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISION_SOURCE", str(frames))
    monkeypatch.setenv("DEVICE_ID", "gate-7")
    assert {row["camera_id"] for row in run("--site", "gate", "--dry-run")} == {"gate-7"}


def test_weights_and_labels_of_the_user(frames: Path, tmp_path: Path) -> None:
    weights = write_constant(tmp_path / "tiny.onnx", V8, metadata={"names": "['walker', 'wagon']"})
    rows = run(str(frames), *CAMERA, "--dry-run", "--detector", "onnx", "--weights", str(weights))
    assert {row["label"] for row in rows} == {"walker", "wagon"}
    (tmp_path / "labels").write_text("person\ncar\n")
    named = ("--labels", str(tmp_path / "labels"))
    rows = run(str(frames), *CAMERA, "--dry-run", "--detector", "onnx", "--weights", str(weights), *named)
    assert {row["label"] for row in rows} == {"person", "car"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere", *CAMERA], "no such file or folder"),
        (["ftp://camera/1", *CAMERA], "ftp://: no kind of address"),
        (["rtsp://camera/1", *CAMERA, "--loop"], "not for a live camera"),
        (["0", *CAMERA, "--dry-run"], "not for a live camera"),
        (["nowhere", *CAMERA, "--detector", "onnx"], "needs --weights FILE"),
        (["nowhere", *CAMERA, "--weights", "x.onnx"], "need --detector onnx"),
        (["nowhere", *CAMERA, "--detector", "onnx", "--weights", "x.onnx"], "x.onnx: no such file"),
        (["nowhere", "--camera-id", " ", "--site", "s"], "--camera-id: give a name"),
        (["nowhere", "--camera-id", "a\nb", "--site", "s"], "--camera-id: give a name"),
    ],
)
def test_wrong_options_are_environment_problems(arguments: list[str], expected: str) -> None:
    with pytest.raises(EnvironmentProblemError, match=expected):
        run(*arguments)


def test_a_start_that_is_no_time_is_one(frames: Path) -> None:
    with pytest.raises(EnvironmentProblemError, match="not a time"):
        run(str(frames), *CAMERA, "--start", "noon")
