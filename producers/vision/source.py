"""Cameras as sources of the producing shell: recorded frames, paced or as fast as they are seen, and live ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.logs import get_logger
from fleetwatch.records import CameraDetection
from producers.batches import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from producers.vision.frames import Frame, Frames
    from producers.vision.sight import Count, Sight

log = get_logger(__name__)

LATE_MS: Final = 1000
"""A paced frame that is later than this when its turn comes is passed over: the detector is slower than the frames."""


class RecordedCamera:
    """Recorded frames, frame by frame.

    Paced (``event_start_ms`` is None): a frame is due, and happened, at the start plus its offset; late ones are
    dropped and counted. Otherwise every frame is looked at, one after the other, and happened at ``event_start_ms``
    plus its offset. With ``loop`` the last frame is followed by the first.
    """

    def __init__(  # noqa: PLR0913
        self,
        frames: Frames,
        sight: Sight,
        *,
        start_ms: int,
        event_start_ms: int | None,
        loop: bool,
        clock_ms: Callable[[], int],
        count: Count,
    ) -> None:
        self._sight = sight
        self._is_paced = event_start_ms is None
        self._start_ms = start_ms if event_start_ms is None else event_start_ms
        self._clock_ms = clock_ms
        self._count = count
        self._free_ms = start_ms
        self._last_ms = -1
        self._bad_in_pass = 0
        self._frames = self._passes(frames, loop=loop)
        self._next = next(self._frames, None)

    @property
    def begin_ms(self) -> int | None:
        """See ``Source``."""
        if self._next is None:
            return None
        return self._start_ms + self._next.offset_ms if self._is_paced else self._free_ms

    def take(self) -> Batch:
        """See ``Source``.

        Raises:
            EnvironmentProblemError: no frame can be read, or the detector cannot work.

        """
        frame, due_ms = self._next, self.begin_ms
        assert frame is not None
        assert due_ms is not None
        rows = []
        if self._is_paced and self._clock_ms() - due_ms > LATE_MS:
            self._count("frames_dropped", 1)
        elif (image := frame.read()) is None:
            log.warning("frame_unreadable", frame=frame.name)
            self._count("frames_bad", 1)
            self._bad_in_pass += 1
        else:
            at_ms = self._last_ms = max(self._start_ms + frame.offset_ms, self._last_ms + 1)
            rows = self._sight.see(image, at_ms)
        self._next = next(self._frames, None)
        self._free_ms = self._clock_ms()
        return Batch(CameraDetection, [due_ms] * len(rows), rows)

    def _passes(self, frames: Frames, *, loop: bool) -> Iterator[Frame]:
        """Yield the frames of pass after pass, with offsets that go on rising."""
        before_ms = 0
        while True:
            in_pass = self._bad_in_pass = 0
            for frame in frames.one_pass():
                in_pass += 1
                yield frame if before_ms == 0 else type(frame)(frame.name, before_ms + frame.offset_ms, frame.read)
            if in_pass == self._bad_in_pass:
                raise EnvironmentProblemError(
                    f"none of the {in_pass} frames can be read: damaged, or not what they seem"
                )
            if not loop:
                return
            before_ms += frames.pass_ms
