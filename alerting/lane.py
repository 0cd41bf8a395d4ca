"""One destination: takes waiting changes in, paces, sends, retries, and reports what became of them.

The order is: wait until sending is allowed, *then* choose what to send, so that a critical change that came
meanwhile goes first and a storm becomes groups.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from alerting.backoff import backoff_seconds
from alerting.grouping import Backlog
from alerting.ports import Delivered, Refused, RetryAfter, RetryReason
from fleetwatch.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from random import Random

    from alerting.pacing import Pacer
    from alerting.ports import Clock, Notice, Notifier, Outcome, Waiting

log = get_logger(__name__)

MARGIN_SECONDS: Final = 0.1
"""Added to what a channel asked for: its clock is not ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """A lane is done with these changes: delivered, or refused for good."""

    channel: str
    lane: str
    changes: tuple[Waiting, ...]
    outcome: Delivered | Refused


@dataclass(frozen=True, kw_only=True, slots=True)
class Retrying:
    """A try failed; the lane waits ``seconds`` and tries again. ``attempt`` counts failures in a row."""

    channel: str
    lane: str
    outcome: RetryAfter
    attempt: int
    seconds: float


Report = Settled | Retrying


class SystemClock:
    """The real time."""

    def now(self) -> datetime:  # noqa: D102  # the port says it
        return datetime.now(UTC)

    def monotonic(self) -> float:  # noqa: D102
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:  # noqa: D102
        await asyncio.sleep(seconds)


class Lane:
    """Runs in one asyncio task; all methods are called on its loop."""

    def __init__(  # noqa: PLR0913  # every collaborator comes from outside
        self,
        notifier: Notifier,
        report: Callable[[Report], None],
        *,
        pacer: Pacer,
        shared: Pacer,
        clock: Clock,
        random: Random,
    ) -> None:
        self.notifier = notifier
        self._report = report
        self._pacer = pacer
        self._shared = shared
        self._clock = clock
        self._random = random
        self._backlog = Backlog(notifier.group_above)
        self._has_work = asyncio.Event()
        self._attempt = 0

    @property
    def waiting(self) -> int:
        """Changes that are not settled."""
        return len(self._backlog)

    def add(self, change: Waiting) -> None:
        """Take a change in."""
        self._backlog.add(change)
        self._has_work.set()

    def drop(self, partitions: Collection[int]) -> None:
        """Forget what was read from these partitions; a send under way is finished and reported."""
        self._backlog.drop(partitions)

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._has_work.wait()
            await self.step()
            if not self._backlog:
                self._has_work.clear()

    async def step(self) -> None:
        """Send at most one notice, once; then, if it failed, wait until the next try makes sense."""
        await self._wait_for_pace()
        changes = self._backlog.next_changes()
        if not changes:
            return
        notice = self.notifier.compose(changes, self._clock.now())
        self._shared.record(self._clock.monotonic())
        outcome = await self._try(notice)
        self._pacer.record(self._clock.monotonic())
        if isinstance(outcome, RetryAfter):
            await self._wait_for_retry(outcome)
            return
        self._attempt = 0
        if isinstance(outcome, Refused) and outcome.reason.is_about_text and len(notice.changes) > 1:
            self._backlog.keep_apart(notice.changes)
            return
        self._backlog.remove(notice.changes)
        self._report(
            Settled(
                channel=self.notifier.channel,
                lane=self.notifier.lane,
                changes=notice.changes,
                outcome=outcome,
            )
        )

    async def _try(self, notice: Notice) -> Outcome:
        try:
            return await self.notifier.send(notice)
        except Exception as error:  # noqa: BLE001  # a channel's bug must not end the lane and lose what waits
            log.error(  # noqa: TRY400  # no trace: its frames may hold what a channel keeps secret
                "channel_failed", lane=self.notifier.lane, kind=type(error).__name__
            )
            return RetryAfter(reason=RetryReason.CHANNEL_FAILED, detail=type(error).__name__)

    async def _wait_for_pace(self) -> None:
        while True:
            now = self._clock.monotonic()
            seconds = max(self._pacer.wait(now), self._shared.wait(now))
            if seconds <= 0:
                return
            await self._clock.sleep(seconds)

    async def _wait_for_retry(self, outcome: RetryAfter) -> None:
        self._attempt += 1
        if outcome.delay is None:
            seconds = backoff_seconds(self._attempt, self._random)
        else:
            seconds = outcome.delay.total_seconds() + MARGIN_SECONDS
        self._report(
            Retrying(
                channel=self.notifier.channel,
                lane=self.notifier.lane,
                outcome=outcome,
                attempt=self._attempt,
                seconds=seconds,
            )
        )
        await self._clock.sleep(seconds)
