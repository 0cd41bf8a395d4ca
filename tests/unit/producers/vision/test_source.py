from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetwatch import avro
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.records import CameraDetection
from fleetwatch.validate import check_detection
from producers.encode import RowEncoder
from producers.vision.detector import Detection, Image
from producers.vision.frames import Frame
from producers.vision.sight import MOST_IN_A_FRAME, Sight
from producers.vision.source import LATE_MS, RecordedCamera

if TYPE_CHECKING:
    from collections.abc import Iterator

START_MS = 1_700_000_000_000
PLACE = (0.1, 0.1, 0.2, 0.2)


class ScriptedDetector:
    """Sees in frame n (its grey) what the script says."""

    def __init__(self, *script: list[Detection]) -> None:
        self._script = script

    def detect(self, image: Image) -> list[Detection]:
        return self._script[int(image[0, 0, 0]) % len(self._script)]


class ListedFrames:
    """Frames 100 ms apart; None cannot be read."""

    def __init__(self, *frames: int | None) -> None:
        self._frames = frames
        self.pass_ms = 100 * len(frames)

    def one_pass(self) -> Iterator[Frame]:
        for number, grey in enumerate(self._frames):
            image = None if grey is None else np.full((4, 4, 3), grey, np.uint8)
            yield Frame(str(number), 100 * number, lambda image=image: image)


class Clock:
    def __init__(self) -> None:
        self.now = START_MS

    def __call__(self) -> int:
        return self.now


def make(*script: list[Detection], count: Counter[str] | None = None) -> Sight:
    counted = Counter[str]() if count is None else count
    return Sight(ScriptedDetector(*script), camera_id="cam-1", site="hall", count=lambda n, by: counted.update({n: by}))


def camera(frames: ListedFrames, sight: Sight, clock: Clock, count: Counter[str], **changes: Any) -> RecordedCamera:
    options: dict[str, Any] = {"start_ms": START_MS, "event_start_ms": None, "loop": False}
    return RecordedCamera(
        frames, sight, clock_ms=clock, count=lambda name, by: count.update({name: by}), **(options | changes)
    )


def person(confidence: float = 0.9, box: tuple[float, float, float, float] = PLACE) -> Detection:
    return Detection("person", confidence, box)


def test_paced_frames_are_due_and_happen_at_their_offsets() -> None:
    count, clock = Counter[str](), Clock()
    source = camera(ListedFrames(0, 1, 0), make([person()], [], count=count), clock, count)
    batches = []
    while source.begin_ms is not None:
        clock.now = source.begin_ms
        batches.append(source.take())
    assert [batch.due_ms for batch in batches] == [[START_MS], [], [START_MS + 200]]
    assert [row["event_time"] for batch in batches for row in batch.rows] == [START_MS, START_MS + 200]
    assert count["frames"] == 3


def test_frames_that_the_detector_is_too_slow_for_are_dropped_and_counted() -> None:
    count, clock = Counter[str](), Clock()
    source = camera(ListedFrames(*range(20)), make([person()], count=count), clock, count)
    clock.now = START_MS + 800 + LATE_MS
    source.take()
    assert count["frames_dropped"] == 1
    assert source.begin_ms == START_MS + 100
    for _ in range(8):
        source.take()
    assert count["frames_dropped"] == 8
    assert count["frames"] == 1


def test_with_a_start_time_every_frame_is_looked_at_one_after_the_other() -> None:
    count, clock = Counter[str](), Clock()
    past = START_MS - 10**9
    source = camera(ListedFrames(0, 1, 2), make([person()], count=count), clock, count, event_start_ms=past)
    times = []
    while (begin := source.begin_ms) is not None:
        assert begin <= clock.now
        clock.now += 5000  # slow
        batch = source.take()
        assert batch.due_ms[0] <= clock.now
        times += [row["event_time"] for row in batch.rows]
    assert times == [past, past + 100, past + 200]
    assert count["frames_dropped"] == 0


def test_a_loop_goes_on_with_rising_times_and_numbers() -> None:
    count, clock = Counter[str](), Clock()
    source = camera(
        ListedFrames(0, 1), make([person(), person(0.5, (0.6, 0.6, 0.1, 0.1))], count=count), clock, count, loop=True
    )
    rows = []
    for _ in range(6):
        assert source.begin_ms is not None
        clock.now = source.begin_ms
        rows += source.take().rows
    assert [row["event_time"] - START_MS for row in rows[::2]] == [0, 100, 200, 300, 400, 500]
    seqs = [row["seq"] for row in rows]
    assert seqs == sorted(set(seqs))


def test_a_frame_that_cannot_be_read_is_counted_and_passed() -> None:
    count, clock = Counter[str](), Clock()
    source = camera(ListedFrames(0, None, 1), make([person()], count=count), clock, count)
    rows = []
    while source.begin_ms is not None:
        clock.now = source.begin_ms
        rows += source.take().rows
    assert len(rows) == 2
    assert count["frames_bad"] == 1


def test_when_no_frame_can_be_read_a_person_must_look() -> None:
    count, clock = Counter[str](), Clock()
    source = camera(ListedFrames(None, None), make([person()], count=count), clock, count, loop=True)
    source.take()
    with pytest.raises(EnvironmentProblemError, match="none of the 2 frames can be read"):
        source.take()


def test_numbers_and_tracks_go_on_rising_after_a_restart() -> None:
    """Nothing is kept between two runs: ids come from the frame's time."""
    first = make([person()]).see(np.zeros((4, 4, 3), np.uint8), START_MS)
    again = make([person()]).see(np.zeros((4, 4, 3), np.uint8), START_MS + 1)
    assert first[0]["seq"] < again[0]["seq"]
    assert first[0]["track_id"] < again[0]["track_id"]
    assert first == make([person()]).see(np.zeros((4, 4, 3), np.uint8), START_MS)


def test_what_a_detector_must_not_say_is_refused_and_counted() -> None:
    count: Counter[str] = Counter()
    nan = float("nan")
    bad = [
        person(nan),
        person(1.1),
        person(-0.1),
        person(0.9, (0.9, 0.1, 0.2, 0.2)),
        person(0.9, (-0.1, 0.1, 0.2, 0.2)),
        person(0.9, (0.1, 0.1, 0.0, 0.2)),
        person(0.9, (nan, 0.1, 0.1, 0.2)),
        Detection("", 0.9, PLACE),
    ]
    rows = make([*bad, person()], count=count).see(np.zeros((4, 4, 3), np.uint8), START_MS)
    assert len(rows) == 1
    assert count["detections_refused"] == len(bad)


def test_a_frame_has_room_for_a_thousand_the_surest_stay() -> None:
    count: Counter[str] = Counter()
    crowd = [person(number / 2000) for number in range(1, MOST_IN_A_FRAME + 6)]
    rows = make(crowd, count=count).see(np.zeros((4, 4, 3), np.uint8), START_MS)
    assert len({row["seq"] for row in rows}) == MOST_IN_A_FRAME
    assert max(row["seq"] for row in rows) < (START_MS + 1) * MOST_IN_A_FRAME
    assert min(row["confidence"] for row in rows) == 6 / 2000
    assert count["detections_over"] == 5


@given(
    box=st.tuples(*[st.floats(0.001, 0.499)] * 4),
    confidence=st.floats(0, 1),
    at_ms=st.integers(0, 4_102_444_800_000),
)
def test_every_row_is_an_event_that_the_pipeline_accepts(
    box: tuple[float, float, float, float], confidence: float, at_ms: int
) -> None:
    (row,) = make([person(confidence, box)]).see(np.zeros((4, 4, 3), np.uint8), at_ms)
    value = RowEncoder(CameraDetection)(row)
    checked = check_detection(b"cam-1", value, at_ms, 1000)
    assert avro.encode(checked) == value
    assert checked.box.x == box[0]
