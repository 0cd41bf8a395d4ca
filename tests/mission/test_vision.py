"""Mission row "Vision": people in frames become detections that the pipeline counts, by the command that users type."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from fleetwatch import topics
from fleetwatch.records import CameraDetection, Scope, WindowCount
from tests.fakes.pedestrians import walk, write_frames
from tests.faults.readings import read_records
from tests.faults.workers import WorkerProcess, wait_for
from tests.unit.producers.vision.test_onnx_weights import V8
from tests.unit.producers.vision.yolo_models import write_constant

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwatch.settings import Settings

pytestmark = pytest.mark.integration

FRAMES = 8


def begin_vision(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {
        "FLEETWATCH_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "FLEETWATCH_EMBEDDED_BROKER": "true",
        "FLEETWATCH_LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", "fleetwatch.cli.main", "vision", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_vision(settings: Settings, *arguments: str) -> tuple[int, str, str]:
    with begin_vision(settings, *arguments) as process:
        output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def detections_of(settings: Settings, camera: str) -> list[CameraDetection]:
    found = read_records(settings, topics.DETECTIONS, CameraDetection)
    return [record for record, _ in found if record.camera_id == camera]


def test_people_in_frames_are_counted_downstream(settings: Settings, tmp_path: Path) -> None:
    """Frames -> command -> Kafka -> worker -> window counts: as many people as were drawn; a bad frame is counted."""
    camera = "gate-" + uuid.uuid4().hex[:8]
    write_frames(tmp_path / "frames", FRAMES)
    (tmp_path / "frames" / "frame-3b.png").write_bytes(b"no image")
    worker = WorkerProcess(settings, tmp_path, FLEETWATCH_IDLE_SECONDS="30")
    try:
        start = datetime.now(UTC).isoformat()  # with a start no frame is dropped, however slow the machine is
        code, output, errors = run_vision(
            settings, str(tmp_path / "frames"), "--camera-id", camera, "--site", "gate", "--start", start, "--json"
        )
        assert code == 0, errors
        drawn = FRAMES * len(walk(0))
        totals = json.loads(output.splitlines()[-1])
        assert (totals["frames"], totals["frames_bad"], totals["frames_dropped"]) == (FRAMES, 1, 0)
        assert totals["detections"] == totals["produced"] == drawn

        detections = detections_of(settings, camera)
        assert len({(seen.event_time, seen.seq) for seen in detections}) == len(detections) == drawn
        assert {seen.label for seen in detections} == {"person"}
        assert len({seen.track_id for seen in detections}) == len(walk(0))

        def counted() -> int:
            newest: dict[datetime, WindowCount] = {}
            for count, _ in read_records(settings, topics.COUNTS, WindowCount):
                if count.scope is Scope.DEVICE and count.key == camera:
                    newest[count.window_start] = count  # a row is written again as it grows
            return sum(count.count for count in newest.values())

        wait_for(lambda: counted() == drawn, 60, "all detections are in windows")
        assert worker.stop() == 0
    finally:
        worker.kill()


def test_weights_of_the_user_see_a_video_until_the_process_is_stopped(settings: Settings, tmp_path: Path) -> None:
    """YOLO weights on looped frames: SIGTERM ends it with every detection acknowledged, exit code 0."""
    camera, frames = "onnx-" + uuid.uuid4().hex[:8], tmp_path / "frames"
    write_frames(frames, 2)
    weights = write_constant(tmp_path / "tiny.onnx", V8)
    (tmp_path / "labels.txt").write_text("person\ncar\n")
    seeing = ("--detector", "onnx", "--weights", str(weights), "--labels", str(tmp_path / "labels.txt"))
    with begin_vision(
        settings, str(frames), "--camera-id", camera, "--site", "gate", "--loop", "--fps", "20", "--json", *seeing
    ) as process:
        try:
            wait_for(lambda: len(detections_of(settings, camera)) >= 30, 30, "detections come")
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    totals = json.loads(output.splitlines()[-1])
    found = detections_of(settings, camera)
    assert len(found) == totals["detections"] == len({(seen.event_time, seen.seq) for seen in found})
    assert {seen.label for seen in found} == {"person", "car"}


def test_what_cannot_be_seen_is_one_line_and_exit_code_2(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    code, _, errors = run_vision(settings, str(tmp_path / "text.mp4"), "--camera-id", "c", "--site", "s")
    assert code == 2
    assert len(errors.splitlines()) == 1
    assert "no video that OpenCV can open" in errors
