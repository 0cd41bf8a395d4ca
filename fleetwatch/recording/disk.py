"""What a disk refuses (full, read-only, a limit) as one line that names the folder."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from fleetwatch.errors import EnvironmentProblemError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def writing(folder: Path, *more: type[Exception]) -> Iterator[None]:
    """Translate errors of writing below a folder; ``more`` are other classes that a library has for them.

    Raises:
        EnvironmentProblemError: the disk refused.

    """
    kinds: tuple[type[Exception], ...] = (OSError, *more)
    try:
        yield
    except kinds as error:
        problem = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise EnvironmentProblemError(f"cannot write to {folder}: {problem}") from None
