"""What the stages of alerting hand to each other, and the Protocols of channels and of the clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from alerting.fleet import FleetStatus
    from fleetwatch.records import Alert


class State(Enum):
    """What became of a notice in one destination; the values are those of the table ``notices``.

    UNKNOWN: it was on its way when the process ended, or no answer came.
    """

    SENT = "sent"
    RETRYING = "retrying"
    REFUSED = "refused"
    UNKNOWN = "unknown"


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
    REFUSED_BEFORE = "REFUSED_BEFORE"

    @property
    def is_about_text(self) -> bool:
        """Whether another text might pass: a refused group is then tried one alert at a time."""
        return self in (RefusalReason.TOO_LONG, RefusalReason.BAD_MARKUP, RefusalReason.BAD_REQUEST)


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivered:
    """The channel has the notice; ``reference`` is the channel's own name for it, such as a message id.

    ``is_from_before``: an earlier run of the process had delivered it.
    """

    reference: str = ""
    is_from_before: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryAfter:
    """Not now. ``delay`` is what the channel asked for; None leaves it to the caller's backoff.

    ``may_have_arrived``: no answer came, so that the next try may say the same thing a second time.
    """

    reason: RetryReason
    delay: timedelta | None = None
    detail: str = ""
    may_have_arrived: bool = False


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


class Told(Enum):
    """What a notice says of an alert. SUMMARY: how the fleet was when the alert began."""

    FIRING = "FIRING"
    RESOLVED = "RESOLVED"
    SUMMARY = "SUMMARY"


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """One thing to tell on its way to one or more channels: a change of an alert, or with ``status`` a summary.

    ``is_repeat``: it may have been told before; the text says so.
    """

    position: Position
    alert: Alert
    status: FleetStatus | None = None
    is_repeat: bool = False

    @property
    def told(self) -> Told:
        """What it says of the alert."""
        return Told(self.alert.state.value) if self.status is None else Told.SUMMARY

    @property
    def key(self) -> tuple[Position, Told]:
        """Its identity in a lane."""
        return self.position, self.told

    def owed_by(self, lane: str) -> str:
        """Return the name under which the ledger waits for a lane's answer."""
        return lane if self.status is None else self.summary_owed_by(lane)

    @staticmethod
    def summary_owed_by(lane: str) -> str:
        """Return the name under which the ledger waits for the summary that goes with an alert."""
        return f"{lane} summary"


@dataclass(frozen=True, kw_only=True, slots=True)
class Button:
    """One button below a message; ``press`` comes back when somebody presses it, at most 64 bytes."""

    text: str
    press: str


Buttons = tuple[tuple[Button, ...], ...]
"""Rows of buttons."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """One message of one channel: what it tells of, at least one thing, its text and its buttons."""

    changes: tuple[Waiting, ...]
    text: str
    buttons: Buttons = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """An answer to a person, in the channel's markup. It is not kept: lost with the process, or when it is old."""

    text: str
    buttons: Buttons = ()


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


@runtime_checkable
class Speaker(Protocol):
    """A notifier that can also answer people in its destination."""

    async def speak(self, reply: Reply) -> Outcome:
        """Try once; as ``Notifier.send``."""
        ...


class Outbox(Protocol):
    """What became of each notice, kept where it survives the process. Called by lanes, on their loop.

    No method raises or takes longer than a few seconds: without its store it does nothing and knows nothing.
    """

    async def look(self, lane: str, changes: Sequence[Waiting]) -> dict[tuple[Position, Told], State]:
        """Return what is known of these; once for each, before its first try."""
        ...

    async def begin(self, lane: str, changes: Sequence[Waiting]) -> None:
        """Take note that these are being sent: UNKNOWN until ``end``."""
        ...

    async def end(self, lane: str, changes: Sequence[Waiting], outcome: Outcome, state: State) -> None:
        """Take note of what became of them."""
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
