"""Folders and small secret files of the local stack."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from fleetwatch.errors import EnvironmentProblemError

if TYPE_CHECKING:
    from pathlib import Path


def make_folder(path: Path, *, mode: int = 0o755) -> Path:
    """Make a folder (and its parents) and check that files can be written in it; return its absolute path.

    Raises:
        EnvironmentProblemError: it cannot be made or written.

    """
    path = path.absolute()
    probe = path / f".probe-{os.getpid()}"
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
    except OSError as error:
        raise EnvironmentProblemError(
            f"cannot write in {path} ({error.strerror}): make room or rights there, or choose another --state-dir"
        ) from None
    return path


def password_in(path: Path) -> str:
    """Return the password kept in a file that only its owner reads; the first call makes it up."""
    try:
        kept = path.read_text()
        if kept:
            return kept
        path.unlink()  # a crash came between making and writing it
    except FileNotFoundError:
        pass
    made_up = secrets.token_urlsafe(24)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(made_up)
    return made_up


def last_line(path: Path, *, containing: tuple[str, ...] = ()) -> str:
    """Return the last line of a log, or ``""``; of those with one of the words, if there is any."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 16_384))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    telling = [line for line in lines if any(word in line for word in containing)]
    return (telling or lines or [""])[-1]
