"""Where the tokens in force come from: a setting, and a file that may change while the gateway runs."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.logs import get_logger
from producers.gateway.tokens import Tokens, parse_tokens

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwatch.settings import Settings

log = get_logger(__name__)


class TokenSource:
    """The tokens in force: of the settings, and of a file that may change while the process runs."""

    def __init__(self, settings: Settings) -> None:
        given = settings.gateway_tokens
        self._given = parse_tokens(given.get_secret_value(), name="FLEETWATCH_GATEWAY_TOKENS") if given else []
        self._file: Path | None = settings.gateway_tokens_file
        self._seen: tuple[int, int, int] | None = None
        self.problem = ""
        """Why a changed file is not in force."""
        self.current: Tokens | None = None if given is None and self._file is None else self._read()

    def look_again(self) -> None:
        """Take a changed file into force; one that cannot be read leaves the former tokens in force."""
        if self._file is None or self._seen == self._stamp():
            return
        try:
            self.current = self._read()
        except EnvironmentProblemError as problem:
            if self.problem != str(problem):
                log.warning("tokens_not_read", problem=str(problem))
            self.problem = str(problem)
        else:
            log.info("tokens_read", tokens=len(self.current))
            self.problem = ""

    def _read(self) -> Tokens:
        self._seen = self._stamp()
        grants = list(self._given)
        if self._file is not None:
            name = f"FLEETWATCH_GATEWAY_TOKENS_FILE {self._file}"
            try:
                grants += parse_tokens(self._file.read_text(encoding="utf-8"), name=name)
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "no text"
                raise EnvironmentProblemError(
                    f"{name} cannot be read ({reason}): make it with `fleetwatch gateway token DEVICE --add`"
                ) from None
        return Tokens(grants)

    def _stamp(self) -> tuple[int, int, int] | None:
        with contextlib.suppress(OSError):
            found = self._file.stat() if self._file is not None else None
            return found and (found.st_ino, found.st_size, found.st_mtime_ns)
        return None


def add_line(file: Path, line: str) -> None:
    """Append a token's line to a file; a new file is for its owner only.

    Raises:
        EnvironmentProblemError: it cannot be written.

    """
    try:
        before = file.read_bytes() if file.exists() else b""
        start = b"" if not before or before.endswith(b"\n") else b"\n"
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab") as out:
            out.write(start + line.encode() + b"\n")
    except OSError as error:
        raise EnvironmentProblemError(f"cannot write {file}: {error.strerror}") from None
