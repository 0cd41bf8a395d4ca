"""YAML files as checked models: what is wrong with one becomes one line that names file and place."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from fleetwatch.errors import EnvironmentProblemError

if TYPE_CHECKING:
    from pathlib import Path

M = TypeVar("M", bound=BaseModel)


def load(path: Path, model: type[M]) -> M:
    """Read a file as a model.

    Raises:
        EnvironmentProblemError: it cannot be read, is no YAML, or does not fit the model.

    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentProblemError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    except yaml.YAMLError as error:
        raise EnvironmentProblemError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    return check(content, model, str(path))


def check(content: object, model: type[M], name: str) -> M:
    """Make a model of plain values.

    Raises:
        EnvironmentProblemError: the values do not fit; the text names the first place that does not.

    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        message = " ".join(first["msg"].removeprefix("Value error, ").split())
        raise EnvironmentProblemError(f"{name}: {place + ': ' if place else ''}{message}{more}") from None
