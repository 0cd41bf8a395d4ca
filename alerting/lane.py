"""One destination: takes waiting changes in, paces, sends, retries, and reports what became of them.

The order is: wait until sending is allowed, *then* choose what to send, so that a critical change that came
meanwhile goes first and a storm becomes groups. With an outbox each try stands between two records of it; see
``alerting.outbox``.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from alerting.backoff import backoff_seconds
from alerting.grouping import Backlog
from alerting.outbox import Verdict, state_after, verdict_of
from alerting.ports import Delivered, RefusalReason, Refused, RetryAfter, RetryReason, Speaker, State
from fleetwatch.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from random import Random

    from alerting.pacing import Pacer
    from alerting.ports import Clock, Notice, Notifier, Outbox, Outcome, Position, Reply, Told, Waiting

log = get_logger(__name__)

MARGIN_SECONDS: Final = 0.1
"""Added to what a channel asked for: its clock is not ours."""
MOST_REPLIES: Final = 20
REPLY_SECONDS: Final = 120.0
"""An answer that could not be given for so long is not wanted any more."""


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
        outbox: Outbox | None = None,
    ) -> None:
        self.notifier = notifier
        self._report = report
        self._pacer = pacer
        self._shared = shared
        self._clock = clock
        self._random = random
        self._outbox = outbox
        self._backlog = Backlog(notifier.group_above)
        self._replies: deque[tuple[float, Reply]] = deque(maxlen=MOST_REPLIES)
        self._has_work = asyncio.Event()
        self._attempt = 0
        self._looked: set[tuple[Position, Told]] = set()
        self._doubtful: set[tuple[Position, Told]] = set()

    @property
    def waiting(self) -> int:
        """Changes that are not settled."""
        return len(self._backlog)

    def add(self, change: Waiting) -> None:
        """Take a change in."""
        self._backlog.add(change)
        self._has_work.set()

    def reply(self, reply: Reply) -> None:
        """Answer a person: after critical changes, before all others. The oldest goes when there are too many."""
        self._replies.append((self._clock.monotonic(), reply))
        self._has_work.set()

    def drop(self, partitions: Collection[int]) -> None:
        """Forget what was read from these partitions; a send under way is finished and reported."""
        self._backlog.drop(partitions)
        for known in (self._looked, self._doubtful):
            known.difference_update([key for key in known if key[0].partition in partitions])

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._has_work.wait()
            await self.step()
            if not self._backlog and not self._replies:
                self._has_work.clear()

    async def step(self) -> None:
        """Send at most one notice, once; then, if it failed, wait until the next try makes sense."""
        await self._wait_for_pace()
        if self._replies and not self._backlog.has_critical:
            await self._answer()
            return
        changes = await self._not_told_before(self._backlog.next_changes())
        if not changes:
            return
        marked = [replace(change, is_repeat=change.key in self._doubtful) for change in changes]
        notice = self.notifier.compose(marked, self._clock.now())
        if self._outbox is not None:
            await self._outbox.begin(self.notifier.lane, notice.changes)
        outcome = await self._paced(self.notifier.send(notice))
        await self._take_note(notice, outcome)
        if isinstance(outcome, RetryAfter):
            await self._wait_for_retry(outcome)
            return
        self._attempt = 0
        if isinstance(outcome, Refused) and outcome.reason.is_about_text and len(notice.changes) > 1:
            self._backlog.keep_apart(notice.changes)
            return
        self._settle(notice.changes, outcome)

    async def _not_told_before(self, changes: tuple[Waiting, ...]) -> list[Waiting]:
        """Return those that are to be sent; what the outbox says is settled already is reported as that."""
        if self._outbox is None:
            return list(changes)
        new = [change for change in changes if change.key not in self._looked]
        if not new:
            return list(changes)
        recorded = await self._outbox.look(self.notifier.lane, new)
        self._looked.update(change.key for change in new)
        verdicts = {change.key: verdict_of(recorded.get(change.key)) for change in new}
        self._doubtful.update(key for key, verdict in verdicts.items() if verdict is Verdict.SEND_AS_REPEAT)
        ends: tuple[tuple[Verdict, Delivered | Refused], ...] = (
            (Verdict.SENT_BEFORE, Delivered(is_from_before=True)),
            (Verdict.REFUSED_BEFORE, Refused(reason=RefusalReason.REFUSED_BEFORE)),
        )
        for verdict, outcome in ends:
            settled = tuple(change for change in new if verdicts[change.key] is verdict)
            if settled:
                self._settle(settled, outcome)
        over = (Verdict.SENT_BEFORE, Verdict.REFUSED_BEFORE)
        return [change for change in changes if verdicts.get(change.key) not in over]

    async def _take_note(self, notice: Notice, outcome: Outcome) -> None:
        """Write the outcome into the outbox. A group that is to be tried one by one is not refused yet."""
        if isinstance(outcome, RetryAfter) and outcome.may_have_arrived:
            self._doubtful.update(change.key for change in notice.changes)
        if self._outbox is None:
            return
        is_group = isinstance(outcome, Refused) and outcome.reason.is_about_text and len(notice.changes) > 1
        for is_doubtful in (False, True):
            changes = [change for change in notice.changes if (change.key in self._doubtful) is is_doubtful]
            if changes:
                state = state_after(outcome, was_doubtful=is_doubtful)
                if is_group:
                    state = State.UNKNOWN if is_doubtful else State.RETRYING
                await self._outbox.end(self.notifier.lane, changes, outcome, state)

    def _settle(self, changes: tuple[Waiting, ...], outcome: Delivered | Refused) -> None:
        self._backlog.remove(changes)
        for known in (self._looked, self._doubtful):
            known.difference_update(change.key for change in changes)
        self._report(Settled(channel=self.notifier.channel, lane=self.notifier.lane, changes=changes, outcome=outcome))

    async def _answer(self) -> None:
        asked_at, reply = self._replies[0]
        if self._clock.monotonic() - asked_at > REPLY_SECONDS or not isinstance(self.notifier, Speaker):
            self._replies.popleft()
            return
        outcome = await self._paced(self.notifier.speak(reply))
        if isinstance(outcome, RetryAfter):
            await self._wait_for_retry(outcome)
            return
        self._attempt = 0
        if self._replies and self._replies[0][1] is reply:
            self._replies.popleft()
        if isinstance(outcome, Refused):
            log.warning("reply_refused", lane=self.notifier.lane, reason=outcome.reason.value, detail=outcome.detail)

    async def _paced(self, sending: Awaitable[Outcome]) -> Outcome:
        self._shared.record(self._clock.monotonic())
        outcome = await self._try(sending)
        self._pacer.record(self._clock.monotonic())
        return outcome

    async def _try(self, sending: Awaitable[Outcome]) -> Outcome:
        try:
            return await sending
        except Exception as error:  # noqa: BLE001  # a channel's bug must not end the lane and lose what waits
            log.error(  # noqa: TRY400  # no trace: its frames may hold what a channel keeps secret
                "channel_failed", lane=self.notifier.lane, kind=type(error).__name__
            )
            return RetryAfter(reason=RetryReason.CHANNEL_FAILED, detail=type(error).__name__, may_have_arrived=True)

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
