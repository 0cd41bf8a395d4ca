"""What the stages of alerting hand to each other, and the Protocols of channels and of the clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from fleetwatch.records import Alert


class RetryReason(Enum):
    """Why a try failed in a way that passes."""

    RATE_LIMITED = "RATE_LIMITED"
    NOT_REACHABLE = "NOT_REACHABLE"
    TIMED_OUT = "TIMED_OUT"
    SERVER_ERROR = "SERVER_ERROR"
    CHAT_MIGRATED = "CHAT_MIGRATED"
    TOKEN_REFUSED = "TOKEN_REFUSED"  # noqa: S105  # a reason, not a secret
    CHANNEL_FAILED = "CHANNEL_FAILED"


class RefusalReason(Enum):
    """Why a channel will never take a notice."""

    CHAT_NOT_FOUND = "CHAT_NOT_FOUND"
    FORBIDDEN = "FORBIDDEN"
    TOO_LONG = "TOO_LONG"
    BAD_MARKUP = "BAD_MARKUP"
    BAD_REQUEST = "BAD_REQUEST"
    OUTPUT_CLOSED = "OUTPUT_CLOSED"

    @property
    def is_about_text(self) -> bool:
        """Whether another text might pass: a refused group is then tried one alert at a time."""
        return self in (RefusalReason.TOO_LONG, RefusalReason.BAD_MARKUP, RefusalReason.BAD_REQUEST)


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivered:
    """The channel has the notice; ``reference`` is the channel's own name for it, such as a message id."""

    reference: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryAfter:
    """Not now. ``delay`` is what the channel asked for; None leaves it to the caller's backoff."""

    reason: RetryReason
    delay: timedelta | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """Never: trying the same notice again cannot help."""

    reason: RefusalReason
    detail: str = ""


Outcome = Delivered | RetryAfter | Refused


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Where an alert change was read: offsets are committed from it."""

    partition: int
    offset: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """One alert change on its way to one or more channels. Identity: position."""

    position: Position
    alert: Alert


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """One message of one channel: the changes that it tells of, at least one, and its text."""

    changes: tuple[Waiting, ...]
    text: str


class Notifier(Protocol):
    """One destination of notices. Called by one lane, one notice at a time.

    ``channel`` is the kind ("telegram"), ``lane`` the destination ("telegram:42"), unique among notifiers.
    ``group_above``: more waiting changes of one rule than this become one notice; None never groups.
    """

    @property
    def channel(self) -> str: ...  # noqa: D102  # the class says it
    @property
    def lane(self) -> str: ...  # noqa: D102
    @property
    def group_above(self) -> int | None: ...  # noqa: D102

    def compose(self, changes: Sequence[Waiting], now: datetime) -> Notice:
        """Return a notice of as many changes from the front as fit its limits, at least one. No I/O."""
        ...

    async def send(self, notice: Notice) -> Outcome:
        """Try once. Raises nothing but cancellation; retrying is the lane's job.

        Delivered means that the other side has acknowledged. After RetryAfter it may or may not have the
        notice (a time-out says nothing), so that delivery is at least once.
        """
        ...


class Clock(Protocol):
    """Time as the lanes see it; tests move it by hand."""

    def now(self) -> datetime:
        """Aware, UTC; for texts."""
        ...

    def monotonic(self) -> float:
        """Seconds, never going back; for pacing."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let at least so much time pass."""
        ...
