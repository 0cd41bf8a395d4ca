"""Detectors of River by name, such as ``river:anomaly.OneClassSVM``: which there are, and whether one can be used here.

Usable is every class below the package ``river`` that scores and learns a dict of features without being told what is
right. A name is resolved inside of that package only. River is imported where such a name is used and nowhere else:
that takes seconds.
"""

from __future__ import annotations

import inspect
import math
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from streams.features import NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping

    Parameters = Mapping[str, Any]

PREFIX: Final = "river:"
SAMPLES: Final = 250
"""A detector must have something to say once it has learned so many."""
SEED: Final = 7
_DOTTED: Final = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+", re.ASCII)


def is_river(name: str) -> bool:
    """Say whether a detector's name asks for one of River's."""
    return name.startswith(PREFIX)


def new_model(name: str, parameters: Parameters) -> Any:
    """Return a model that has learned nothing; a ``seed`` is fixed where it takes one and none is given.

    ``name`` comes with or without ``river:`` in front.

    Raises:
        ValueError: there is no such detector, or it cannot be made with these parameters.

    """
    made = detector_class(name)
    known = [found.name for found in inspect.signature(made).parameters.values()]
    unknown = [given for given in parameters if given not in known]
    if unknown:
        raise ValueError(f"{_short(name)} has no parameter {unknown[0]}; it has {', '.join(known) or 'none'}")
    seed = {"seed": SEED} if "seed" in known else {}
    try:
        return made(**(seed | dict(parameters)))
    except Exception as error:  # noqa: BLE001  # River's own checks, of any kind
        raise ValueError(f"{_short(name)} cannot be made: {_text(error)}") from None


def detector_class(name: str) -> Any:
    """Return the class that a name asks for.

    Raises:
        ValueError: there is none, or it is no detector that can be used here; the text names those that can.

    """
    short = _short(name)
    base = import_module("river.base")
    found = _found(short)
    if found is None:
        raise ValueError(f"River has no {short}; there are {', '.join(usable())}")
    is_class = inspect.isclass(found) and found.__module__.split(".")[0] == "river"
    if not is_class or not issubclass(found, base.AnomalyDetector) or inspect.isabstract(found):
        why = "is told what is right" if _is_supervised(found, base) else "is no detector that can stand alone"
        raise ValueError(f"River's {short} {why}; there are {', '.join(usable())}")
    return found


def check(name: str, parameters: Parameters) -> None:
    """Make a detector and try it on a few hundred random samples.

    Raises:
        ValueError: it cannot be made, fails, gives no finite number, or says the same of everything.

    """
    model = new_model(name, parameters)
    samples = np.random.default_rng(SEED).uniform(0.0, 1.0, (SAMPLES + 3, len(NAMES))).tolist()
    rows = [dict(zip(NAMES, sample, strict=True)) for sample in samples]
    try:
        for row in rows[:SAMPLES]:
            model.learn_one(row)
        scores = [float(model.score_one(row)) for row in rows[SAMPLES:]]
    except Exception as error:  # noqa: BLE001  # whatever a parameter of a wrong kind leads to
        raise ValueError(f"{_short(name)} fails on samples: {_text(error)}") from None
    if not all(math.isfinite(score) for score in scores):
        raise ValueError(f"{_short(name)} gives no finite score with these parameters")
    if len(set(scores)) == 1:
        raise ValueError(f"{_short(name)} gives every sample the same score after {SAMPLES} were learned")


def usable() -> list[str]:
    """Return the names that can be used of the package ``river.anomaly``, as a file has them."""
    base, package = import_module("river.base"), import_module("river.anomaly")
    return [
        f"{PREFIX}anomaly.{name}"
        for name, found in sorted(vars(package).items())
        if inspect.isclass(found) and issubclass(found, base.AnomalyDetector) and not inspect.isabstract(found)
    ]


def _found(short: str) -> Any:
    """Return what stands at a dotted place below ``river``; None for nothing."""
    if not _DOTTED.fullmatch(short):
        return None
    module, _, last = short.rpartition(".")
    try:
        return getattr(import_module(f"river.{module}"), last, None)
    except ImportError:
        return None


def _is_supervised(found: Any, base: Any) -> bool:
    return inspect.isclass(found) and issubclass(found, base.SupervisedAnomalyDetector)


def _short(name: str) -> str:
    return name.removeprefix(PREFIX)


def _text(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
