"""A disk that takes no more: one line that names the folder, and what is there stays readable."""

from __future__ import annotations

import resource
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from fleetwatch import topics
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.recording.export import export
from fleetwatch.recording.reader import Recording, salvage, verify
from fleetwatch.recording.writer import RecordingWriter
from fleetwatch.settings import Settings
from streams.replay.run import run
from tests.unit.recording.recordings import readings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOM = 8192
"""Bytes that a file may have: less than a block of 2,000 readings, more than a head."""


@contextmanager
def full_disk() -> Iterator[None]:
    """Files cannot grow beyond ``ROOM``: the kernel's own refusal, as of a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def refused(folder: Path) -> Iterator[None]:
    with full_disk(), pytest.raises(EnvironmentProblemError) as caught:
        yield
    assert str(caught.value).startswith(f"cannot write to {folder}: ")
    assert "\n" not in str(caught.value)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    with RecordingWriter(tmp_path / "rec", {topics.READINGS: 1}) as writer:
        writer.append(topics.READINGS, readings(2000))
        writer.close()
    return tmp_path / "rec"


def test_a_recorder_stops_and_goes_on_later_without_loss(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    with RecordingWriter(folder, {topics.READINGS: 1}) as writer:
        writer.append(topics.READINGS, readings(10))
        with refused(folder):
            writer.append(topics.READINGS, readings(2000, first=10))
    assert verify(folder).problems == []
    with RecordingWriter(folder, {topics.READINGS: 1}) as writer:
        assert writer.next_offsets(topics.READINGS) == {0: 10}
        writer.append(topics.READINGS, readings(2000, first=10))
        writer.close()
    assert verify(folder).problems == []
    assert verify(folder).events == {topics.READINGS: 2010}


def test_salvage_and_export_say_it(recording: Path, tmp_path: Path) -> None:
    with refused(tmp_path / "saved"):
        salvage(recording, tmp_path / "saved")
    for kind in ("parquet", "csv"):
        with refused(tmp_path / kind):
            export(Recording(recording), topics.READINGS, tmp_path / kind, kind, lambda _: None)


def test_a_replay_through_the_engine_says_it(recording: Path, tmp_path: Path) -> None:
    run(Recording(recording), Settings(), tmp_path / "before", batch_size=1000)  # kernels are compiled into their cache
    with refused(tmp_path / "results"):
        run(Recording(recording), Settings(), tmp_path / "results", batch_size=1000, with_scores=True)
