from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fleetwatch.errors import EnvironmentProblemError
from producers.vision.frames import Frame, open_recorded

if TYPE_CHECKING:
    from pathlib import Path


def write_video(path: Path, *, frames: int = 20, fps: float = 10, codec: str = "MJPG") -> Path:
    """Frame n is grey of 10 n."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (64, 48))
    assert writer.isOpened()
    noise = np.random.default_rng(1)
    for number in range(frames):
        writer.write((noise.integers(0, 10, (48, 64, 3)) + 10 * number).astype(np.uint8))
    writer.release()
    return path


def look(path: Path, fps: float | None = None) -> list[tuple[int, int | None]]:
    """Offset and number of each frame, None for one that cannot be read."""
    found = []
    for frame in open_recorded(path, fps).one_pass():
        image = frame.read()
        found.append((frame.offset_ms, None if image is None else round((float(image.mean()) - 5) / 10)))
    return found


def write_images(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((8, 8, 3), 10 * number + 5, np.uint8))
    return folder


def test_images_come_in_counting_order_at_a_steady_rate(tmp_path: Path) -> None:
    write_images(tmp_path, "f-1.png", "f-2.png", "f-10.png", "f-10a.JPG")
    (tmp_path / "notes.txt").write_text("no image")
    assert look(tmp_path) == [(0, 0), (500, 1), (1000, 2), (1500, 3)]
    assert look(tmp_path, 3) == [(0, 0), (333, 1), (666, 2), (1000, 3)]
    assert look(tmp_path / "f-2.png") == [(0, 1)]


def test_an_image_that_cannot_be_read_is_none_and_the_others_are_there(tmp_path: Path) -> None:
    write_images(tmp_path, "1.png", "4.png")
    (tmp_path / "2.png").write_bytes(b"no image")
    (tmp_path / "3.png").write_bytes(b"")
    (tmp_path / "5.png").mkdir()
    assert look(tmp_path) == [(0, 0), (500, None), (1000, None), (1500, 1), (2000, None)]


@pytest.mark.parametrize(("name", "codec"), [("v.avi", "MJPG"), ("v.mp4", "mp4v")])
def test_a_video_comes_at_its_own_times(tmp_path: Path, name: str, codec: str) -> None:
    video = write_video(tmp_path / name, codec=codec)
    assert look(video) == [(100 * number, number) for number in range(20)]
    frames = open_recorded(video, None)
    assert len(list(frames.one_pass())) == len(list(frames.one_pass())) == 20
    assert frames.pass_ms == 2000


@pytest.mark.parametrize(("fps", "expected"), [(2, [0, 5, 10, 15]), (4, [0, 3, 5, 8, 10, 13, 15, 18]), (50, range(20))])
def test_of_a_video_so_many_frames_a_second_are_looked_at(tmp_path: Path, fps: float, expected: list[int]) -> None:
    assert look(write_video(tmp_path / "v.avi"), fps) == [(100 * number, number) for number in expected]


def test_damage_in_a_video_is_counted_and_what_follows_keeps_its_time(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi")
    raw = bytearray(video.read_bytes())
    start = raw.index(b"00dc", raw.index(b"movi"))  # the first frame; go to the sixth
    for _ in range(5):
        start = raw.index(b"00dc", start + 4)
    raw[start + 8 : start + 200] = bytes(192)
    video.write_bytes(raw)
    found = look(video)
    assert [pair for pair in found if pair[1] is not None] == [(100 * n, n) for n in range(20) if n != 5]
    assert sum(number is None for _, number in found) == 1


def test_a_video_that_ends_early_gives_what_is_there(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi")
    raw = video.read_bytes()
    video.write_bytes(raw[: len(raw) * 3 // 4])
    found = look(video)
    assert 5 <= len(found) <= 15
    assert found == [(100 * number, number) for number in range(len(found))]


def test_what_gives_no_frames_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    whole = write_video(tmp_path / "whole.mp4", codec="mp4v").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])  # its index stands at the end
    cases = {"empty": "no images there", "nothing": "no such file", "text.mp4": "no video", "cut.mp4": "damaged"}
    for name, expected in cases.items():
        with pytest.raises(EnvironmentProblemError, match=expected) as caught:
            open_recorded(tmp_path / name, None)
        assert "\n" not in str(caught.value)


def test_a_frame_is_read_when_asked_for(tmp_path: Path) -> None:
    write_images(tmp_path, "1.png", "2.png")
    passing = open_recorded(tmp_path, None).one_pass()
    first = next(passing)
    assert isinstance(first, Frame)
    (tmp_path / "1.png").unlink()
    assert first.read() is None
