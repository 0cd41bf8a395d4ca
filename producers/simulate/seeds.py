"""Randomness without a state: every use has its own stream, numbered within the seed of the run."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What random numbers are for. Streams never meet, so a change in one leaves the others as they are."""

    SENSOR_TRAITS = 1
    SENSOR_ROUNDS = 2
    NOISE_FAULTS = 3
    CAMERA_TRAITS = 4
    CAMERA_FRAMES = 5
    FAULTS = 6


def generator(seed: int, stream: Stream, *numbers: int) -> np.random.Generator:
    """Return the random numbers of one use, always the same ones."""
    return np.random.default_rng([seed, int(stream), *numbers])
