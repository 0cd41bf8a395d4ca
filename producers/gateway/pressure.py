"""When the gateway must say "later", and how much later. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

BODIES_HELD: Final = 64
"""So many bodies of the greatest length may be in memory at a time, or more that are shorter."""


class Busy(Enum):
    """Why a request is not taken now. Nothing of it was handed to Kafka."""

    STOPPING = "the gateway is stopping"
    BROKER_AWAY = "no Kafka broker answers"
    REQUESTS = "too many requests at a time"
    BODIES = "too many bytes are being received"
    EVENTS = "too many events wait for Kafka's acknowledgement"


SHORT_WAIT_SECONDS: Final = 1
LONG_WAIT_SECONDS: Final = 5
_LONG: Final = frozenset({Busy.STOPPING, Busy.BROKER_AWAY})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What may be under way at a time."""

    requests: int
    body_bytes: int
    events: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What is under way, without the request in question."""

    requests: int = 0
    body_bytes: int = 0
    events: int = 0
    is_broker_away: bool = False
    is_stopping: bool = False


def busy_for_request(load: Load, limits: Limits, *, body_bytes: int) -> Busy | None:
    """Decide on a request that has come, before its body is read; None lets it in."""
    if load.is_stopping:
        return Busy.STOPPING
    if load.is_broker_away:
        return Busy.BROKER_AWAY
    if load.requests >= limits.requests:
        return Busy.REQUESTS
    if load.body_bytes + body_bytes > limits.body_bytes:
        return Busy.BODIES
    return Busy.EVENTS if load.events >= limits.events else None


def busy_for_events(load: Load, limits: Limits, *, events: int) -> Busy | None:
    """Decide on the events of a request that was let in, before they are handed to Kafka; None lets them go.

    More events than the limit are let go when no others are there: else they never could be.
    """
    if load.is_broker_away:
        return Busy.BROKER_AWAY
    return Busy.EVENTS if load.events and load.events + events > limits.events else None


def retry_after(reason: Busy | None, spread: float) -> int:
    """Return whole seconds until another try; ``spread`` (0..1, random) keeps clients from coming all at once.

    No reason stands for events that Kafka did not acknowledge in time.
    """
    least = LONG_WAIT_SECONDS if reason is None or reason in _LONG else SHORT_WAIT_SECONDS
    return least + int(spread * (least + 1))
