"""OpenCV and FFmpeg write their complaints to standard error by themselves; ours are counted and logged instead."""

from __future__ import annotations

import os

import cv2


def quiet_opencv() -> None:
    """Silence the libraries; a person who sets their variables keeps what they say."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
