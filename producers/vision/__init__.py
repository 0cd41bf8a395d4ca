"""Frames of a camera become detections."""
