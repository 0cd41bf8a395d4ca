"""``vision``: a camera's frames become detections."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fleetwatch.cli.producing import AsJson, For, print_events, run_producer, start_ms_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetwatch.service import Status
    from producers.batches import Source
    from producers.vision.detector import FrameDetector


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("vision")(vision)


def vision(
    source: Annotated[
        str,
        typer.Argument(
            envvar="VISION_SOURCE",
            show_envvar=True,
            help="A folder of images, a video file, a camera's address (rtsp://...) or device number (0).",
        ),
    ],
    camera_id: Annotated[str, typer.Option(envvar="DEVICE_ID", help="Id of the camera in the fleet.")],
    site: Annotated[str, typer.Option(help="Where it stands.")],
    detector: Annotated[
        Literal["people", "onnx"], typer.Option(help="OpenCV's people detector, or YOLO weights of yours.")
    ] = "people",
    weights: Annotated[
        Path | None, typer.Option(help="ONNX file, YOLOv5, v8 or v11 layout, for --detector onnx.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Names of the model's classes, one a line; those in the model if unset.")
    ] = None,
    confidence: Annotated[float, typer.Option(min=0.01, max=1, help="Less sure detections are left out.")] = 0.5,
    iou: Annotated[
        float, typer.Option(min=0, max=1, help="Boxes of one label that overlap by more are one object.")
    ] = 0.45,
    fps: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=1000, help="Frames looked at in a second; if unset all of a video, 2 images, 5 of a camera."
        ),
    ] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Go on with the first frame after the last one.")] = False,
    start: Annotated[
        str | None,
        typer.Option(help="Event time of the first frame, ISO 8601: frames are then looked at without waiting."),
    ] = None,
    for_seconds: For = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the events as JSON lines, without Kafka and without waiting.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Detect objects in the frames of a camera and send them to fleet.detections."""
    from fleetwatch.errors import EnvironmentProblemError
    from producers.vision.live import is_live

    for name, value in (("--camera-id", camera_id), ("--site", site)):
        if not value.strip() or not value.isprintable():
            raise EnvironmentProblemError(f"{name}: give a name of printable characters")
    live = is_live(source) and not Path(source).exists()
    if "://" in source and not live:
        raise EnvironmentProblemError(f"{source.partition('://')[0]}://: no kind of address that can be read")
    if live and (loop or start is not None or dry_run):
        raise EnvironmentProblemError("--loop, --start and --dry-run are for recorded frames, not for a live camera")
    seeing = _detector(detector, weights, labels, confidence=confidence, iou=iou)
    if live:
        _run_live(source, seeing, camera_id, site, fps=fps, for_seconds=for_seconds, as_json=as_json)
    else:
        _run_recorded(
            Path(source),
            seeing,
            camera_id,
            site,
            fps=fps,
            loop=loop,
            start=start,
            for_seconds=for_seconds,
            dry_run=dry_run,
            as_json=as_json,
        )


def _detector(kind: str, weights: Path | None, labels: Path | None, *, confidence: float, iou: float) -> FrameDetector:
    from fleetwatch.errors import EnvironmentProblemError

    if kind == "people":
        if weights is not None or labels is not None:
            raise EnvironmentProblemError("--weights and --labels need --detector onnx")
        from producers.vision.people import PeopleDetector

        return PeopleDetector(confidence=confidence, max_overlap=iou)
    if weights is None:
        raise EnvironmentProblemError("--detector onnx needs --weights FILE: no weights are shipped")
    from producers.vision.onnx_weights import OnnxDetector, read_labels

    names = None if labels is None else read_labels(labels)
    return OnnxDetector(weights, names, confidence=confidence, max_overlap=iou)


def _run_recorded(
    path: Path,
    detector: FrameDetector,
    camera_id: str,
    site: str,
    *,
    fps: float | None,
    loop: bool,
    start: str | None,
    for_seconds: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:

    from fleetwatch.service import Status
    from producers.vision.frames import open_recorded
    from producers.vision.live import clock_ms
    from producers.vision.sight import Sight
    from producers.vision.source import RecordedCamera

    frames = open_recorded(path, fps)
    event_start_ms = None if start is None else start_ms_of(start)

    def camera(status: Status, start_ms: int, event_ms: int | None, clock: Callable[[], int]) -> RecordedCamera:
        return RecordedCamera(
            frames,
            Sight(detector, camera_id=camera_id, site=site, count=status.count),
            start_ms=start_ms,
            event_start_ms=event_ms,
            loop=loop,
            clock_ms=clock,
            count=status.count,
        )

    if dry_run:
        begin = start_ms_of(start)
        end_ms = (1 << 62) if for_seconds is None else begin + round(for_seconds * 1000)
        print_events([camera(Status("vision"), begin, None, lambda: begin)], end_ms)  # never late, never waiting
        return
    run_producer(
        "vision",
        lambda start_ms, status: [camera(status, start_ms, event_start_ms, clock_ms)],
        for_seconds=for_seconds,
        as_json=as_json,
    )


def _run_live(
    source: str,
    detector: FrameDetector,
    camera_id: str,
    site: str,
    *,
    fps: float | None,
    for_seconds: float | None,
    as_json: bool,
) -> None:
    from contextlib import ExitStack

    from producers.vision.live import LIVE_FPS, LiveCamera, NewestFrame, clock_ms
    from producers.vision.sight import Sight

    with ExitStack() as stack:

        def sources(start_ms: int, status: Status) -> list[Source]:
            def tell(problem: str) -> None:
                status.problem = problem

            newest = stack.enter_context(NewestFrame(source, count=status.count, tell=tell, clock_ms=clock_ms))
            sight = Sight(detector, camera_id=camera_id, site=site, count=status.count)
            return [LiveCamera(newest, sight, start_ms=start_ms, fps=fps or LIVE_FPS, clock_ms=clock_ms)]

        run_producer("vision", sources, for_seconds=for_seconds, as_json=as_json)
