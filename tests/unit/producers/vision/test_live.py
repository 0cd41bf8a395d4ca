from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from producers.vision import live
from producers.vision.live import LiveCamera, NewestFrame, is_live, shown
from tests.unit.producers.vision.test_source import make, person

if TYPE_CHECKING:
    import pytest


def wait_for(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class FakeCapture:
    """A camera that gives so many frames, each when it is asked for and allowed, and is gone then."""

    def __init__(self, frames: int, gate: threading.Semaphore) -> None:
        self._left = frames
        self._gate = gate

    def isOpened(self) -> bool:  # noqa: N802  # OpenCV's name
        return self._left > 0

    def read(self) -> tuple[bool, Any]:
        if self._left == 0:
            return False, None
        self._gate.acquire(timeout=10)
        self._left -= 1
        return True, np.full((4, 4, 3), self._left, np.uint8)

    def release(self) -> None:
        return


def test_addresses_and_device_numbers_are_live_and_passwords_are_not_shown() -> None:
    assert [is_live(text) for text in ("rtsp://cam/1", "0", "HTTP://cam", "frames", "v.mp4", "file://x")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    assert shown("rtsp://me:p@ss@cam:554/a") == "rtsp://cam:554/a"
    assert shown("0") == "0"


def test_the_newest_frame_is_kept_older_ones_are_counted_and_a_lost_camera_is_opened_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "FIRST_PAUSE", 0.001)
    count: Counter[str] = Counter()
    told: list[str] = []
    gate = threading.Semaphore(0)
    cameras = iter([FakeCapture(3, gate), FakeCapture(0, gate), FakeCapture(50, gate)])
    newest = NewestFrame(
        "rtsp://user:secret@cam/1",
        count=lambda name, by: count.update({name: by}),
        tell=told.append,
        clock_ms=lambda: 1000,
        open_it=lambda _: next(cameras),
    )
    with newest:
        gate.release(3)
        wait_for(lambda: count["camera_lost"] == 2)  # after three frames, and at an attempt that failed
        assert count["frames_dropped"] == 2
        taken = newest.take()
        assert taken is not None
        assert taken.image[0, 0, 0] == 0
        assert newest.take() is None
        assert told[0] == ""
        assert "no frames" in told[1]
        assert "secret" not in told[1]
        gate.release(1)
        wait_for(lambda: told[-1] == "")
        wait_for(lambda: newest.take() is not None)
        gate.release(100)


def test_a_live_frame_happens_when_it_came_and_no_more_than_asked_for_are_looked_at() -> None:
    now = [5000]
    gate = threading.Semaphore(0)
    newest = NewestFrame(
        "0", count=lambda *_: None, tell=lambda _: None, clock_ms=lambda: now[0], open_it=lambda _: FakeCapture(9, gate)
    )
    source = LiveCamera(newest, make([person()]), start_ms=5000, fps=4, clock_ms=lambda: now[0])
    assert source.take().rows == []  # nothing came yet
    assert source.begin_ms == 5020
    with newest:
        gate.release(1)
        rows: list[Any] = []
        wait_for(lambda: rows.extend(source.take().rows) or rows)
        assert rows[0]["event_time"] == 5000
        assert source.begin_ms == 5270
        gate.release(100)
