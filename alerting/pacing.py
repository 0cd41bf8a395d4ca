"""How fast a lane may send: sliding windows over the times of sends, in monotonic seconds. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``count`` sends within any ``seconds``."""

    count: int
    seconds: float


class Pacer:
    """Says how long to wait before the next send so that every limit holds."""

    def __init__(self, *limits: Limit) -> None:
        self._limits = limits
        self._sent: deque[float] = deque(maxlen=max((limit.count for limit in limits), default=1))

    def wait(self, now: float) -> float:
        """Return the seconds until a send is allowed, 0 or less when it is now."""
        full = (limit for limit in self._limits if len(self._sent) >= limit.count)
        return max((self._sent[-limit.count] + limit.seconds - now for limit in full), default=0.0)

    def record(self, now: float) -> None:
        """Remember one send."""
        self._sent.append(now)
