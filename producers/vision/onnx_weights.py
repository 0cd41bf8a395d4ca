"""YOLO-family weights in an ONNX file, run by onnxruntime on the processor."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnxruntime

from fleetwatch.errors import EnvironmentProblemError
from producers.vision.detector import Detection, Image, detections_of
from producers.vision.letterbox import Letterbox
from producers.vision.yolo import decode, layout_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

USUAL_SIDE: Final = 640
"""Pixels of an input whose size the file leaves open."""
ELEMENT_TYPES: Final[dict[str, type[np.floating]]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
ERRORS_ONLY: Final = 4
"""onnxruntime's log level: fatal."""


@dataclass(frozen=True, slots=True)
class _Input:
    name: str
    width: int
    height: int
    element: type[np.floating]


class OnnxDetector:
    """A ``FrameDetector`` of what a YOLO model was trained on.

    Labels come from a list, or from the names that the model carries (Ultralytics' exports do). The model runs once on
    a grey frame at the start, so that a file that does not fit is known before the first frame.
    """

    def __init__(self, weights: Path, labels: Sequence[str] | None, *, confidence: float, max_overlap: float) -> None:
        """Load a model.

        Raises:
            EnvironmentProblemError: it cannot be read, is no such model, or its labels do not fit.

        """
        self._weights = weights
        self._least = confidence
        self._max_overlap = max_overlap
        self._session = _load(weights)
        carried = self._session.get_modelmeta().custom_metadata_map
        names = labels if labels is not None else _carried_names(carried.get("names", ""))
        if not names:
            raise EnvironmentProblemError(f"{weights}: the model carries no names of its classes: give --labels FILE")
        self._labels = tuple(names)
        self._input = _input_of(self._session, weights, carried.get("imgsz", ""))
        grey = np.full((self._input.height, self._input.width, 3), 114, dtype=np.uint8)
        try:
            self._layout = layout_of(self._run(grey).shape, len(self._labels))
        except ValueError as error:
            raise EnvironmentProblemError(f"{weights}: {error}") from None

    def detect(self, image: Image) -> list[Detection]:
        """See ``FrameDetector``."""
        height, width = image.shape[:2]
        letterbox = Letterbox.of(width, height, self._input.width, self._input.height)
        found = decode(self._run(letterbox.apply(image)), self._layout, least=self._least)
        return detections_of(
            letterbox.to_frame(found.boxes),
            found.confidence,
            [self._labels[number] for number in found.classes],
            image,
            max_overlap=self._max_overlap,
        )

    def _run(self, picture: Image) -> NDArray[np.floating]:
        """Return the model's first output for a picture of its input's size."""
        channels_first = picture[:, :, ::-1].transpose(2, 0, 1)[np.newaxis]
        pixels = np.ascontiguousarray(channels_first, dtype=np.float32) / np.float32(255)
        try:
            outputs = self._session.run(None, {self._input.name: pixels.astype(self._input.element)})
        except Exception as error:  # noqa: BLE001  # the library has a dozen classes without a common base
            raise EnvironmentProblemError(f"{self._weights}: the model fails on a frame ({_one_line(error)})") from None
        return np.asarray(outputs[0])


def read_labels(file: Path) -> tuple[str, ...]:
    """Read the names of a model's classes, one a line, in the order of their numbers.

    Raises:
        EnvironmentProblemError: it cannot be read, or a line is empty or unprintable.

    """
    try:
        lines = file.read_text(encoding="utf-8").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentProblemError(f"cannot read {file}: {getattr(error, 'strerror', None) or 'no UTF-8'}") from None
    labels = tuple(line.strip() for line in lines)
    for number, label in enumerate(labels, 1):
        if not label or not label.isprintable():
            raise EnvironmentProblemError(f"{file}, line {number}: no name there; one class a line")
    if not labels:
        raise EnvironmentProblemError(f"{file}: no names in it; one class a line")
    return labels


def _load(weights: Path) -> Any:
    if not weights.is_file():
        raise EnvironmentProblemError(f"{weights}: no such file")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  # as above
        raise EnvironmentProblemError(f"{weights}: no model that onnxruntime can load ({_one_line(error)})") from None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:200]}..."


def _carried_names(text: str) -> tuple[str, ...]:
    """Read Ultralytics' metadata: a dictionary or a list, written as Python does."""
    try:
        names = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return ()
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[number] for number in range(len(names))]
    return tuple(str(name) for name in names) if isinstance(names, list) else ()


def _input_of(session: Any, weights: Path, carried_size: str) -> _Input:
    inputs = session.get_inputs()
    first = inputs[0] if len(inputs) == 1 else None
    shape = list(first.shape) if first is not None else []
    element = ELEMENT_TYPES.get(first.type) if first is not None else None
    if (
        first is None
        or element is None
        or len(shape) != 4
        or shape[1] not in {3, "channels"}
        or shape[0] in range(2, 1 << 16)
    ):
        seen = ", ".join(f"{one.type} {one.shape}" for one in inputs)
        raise EnvironmentProblemError(
            f"{weights}: its input is {seen or 'none'}, a YOLO detector's is float (1, 3, height, width)"
        )
    height, width = (side if isinstance(side, int) else None for side in shape[2:])
    try:
        carried_height, carried_width = (int(side) for side in ast.literal_eval(carried_size))
    except (ValueError, SyntaxError, TypeError):
        carried_height = carried_width = USUAL_SIDE
    return _Input(first.name, width or carried_width, height or carried_height, element)
