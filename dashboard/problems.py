"""What can be away, as a text in every language: pages show it in theirs, logs and /status in English."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fleetwatch import i18n
from fleetwatch.errors import TransientError

if TYPE_CHECKING:
    from fleetwatch.i18n import Texts


class Problem(NamedTuple):
    """One line for a person: which text, with which values."""

    key: str
    values: tuple[tuple[str, str], ...] = ()

    def said(self, say: Texts) -> str:
        """Return the line."""
        return say(self.key, **dict(self.values))

    def __str__(self) -> str:
        return self.said(i18n.texts("dashboard", "en"))


class AwayError(TransientError):
    """A part that a page asks does not answer now."""

    def __init__(self, key: str, **values: str) -> None:
        self.problem = Problem(key, tuple(values.items()))
        super().__init__(str(self.problem))
