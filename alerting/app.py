"""The alerting process: alert topic -> lifecycle and mutes -> lanes -> commit; with Telegram a bot beside it.

An offset is committed only when every lane has delivered or refused its change, and a refusal is a dead
letter that the broker has acknowledged. Killed in between, the process tells the same change again, with the
same id.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Producer

from alerting.actions import ActionReader
from alerting.crossings import Crossings
from alerting.delivery import Delivery
from alerting.intake import Intake
from alerting.lane import Retrying, Settled
from alerting.ledger import Ledger
from alerting.lifecycle import Decision, History
from alerting.metrics import AlertingMetrics
from alerting.muting import Standing
from alerting.ports import Delivered, Position, Refused, RetryReason, Waiting
from alerting.summaries import Summaries
from fleetwatch import avro, kafka, topics
from fleetwatch.errors import RefusedError
from fleetwatch.logs import get_logger
from fleetwatch.records import Alert, AlertAction, DeadLetter, Reason, Stage, from_millis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alerting.bot.thread import BotThread
    from alerting.channels import Channels
    from alerting.ports import Reply
    from fleetwatch.service import Service
    from fleetwatch.settings import Settings

log = get_logger(__name__)

MOST_OPEN: Final = 20_000
"""With so many changes unsettled reading pauses: memory stays bounded while Telegram is away."""
POLL_SECONDS: Final = 0.05
STOP_SECONDS: Final = 3.0
DEAD_LETTER_LANE: Final = "dead-letter"
NOTIFY_REASON: Final = Reason.NOTIFY_REFUSED
BAD_TOKEN: Final = "Telegram refuses the bot: set FLEETWATCH_TELEGRAM_TOKEN and start again"  # noqa: S105  # none


class Alerting:
    """One process's work; ``run`` until the service is to stop."""

    def __init__(self, settings: Settings, service: Service, channels: Channels) -> None:
        self._settings = settings
        self._status = service.status
        self._service = service
        self._channels = channels
        self._metrics = AlertingMetrics(service.registry)
        self._ledger = Ledger()
        self._histories: dict[int, History] = {}
        self._told_before: dict[int, int] = {}
        self._raw: dict[Position, Any] = {}
        self._producer: Producer | None = None
        self._troubled: dict[str, RetryReason] = {}
        self._standing = Standing()
        self._crossings: dict[int, Crossings] = {}
        self._bot: BotThread | None = None

    def run(self) -> int:
        """Work until ``service.stopping``; return the exit code.

        Raises:
            EnvironmentProblemError: no broker, or a token that the API does not accept.

        """
        kafka.ensure_topics(self._settings, (topics.ALERTS, topics.ALERT_ACTIONS, topics.DEAD_LETTERS))
        with ExitStack() as open_parts:
            self._delivery = open_parts.enter_context(Delivery(self._channels.make_lanes, self._channels.close))
            self._check_telegram()
            self._summaries = Summaries(self._settings)
            open_parts.callback(self._summaries.close)
            self._actions = ActionReader(self._settings)
            open_parts.callback(self._actions.close)
            self._act(self._actions.catch_up())
            self._start_bot()
            open_parts.callback(self._stop_bot)
            self._intake = Intake(
                self._settings,
                on_assign=self._assigned,
                on_revoke=self._revoked,
                on_commit_failed=self._ledger.commit_failed,
            )
            open_parts.callback(self._intake.close)
            self._loop()
            self._stop()
        return 0

    def _start_bot(self) -> None:
        if self._channels.telegram is None:
            return
        from alerting.bot.thread import BotThread  # noqa: PLC0415  # only with Telegram, as all that it imports

        def reply(lane: str, answer: Reply) -> None:
            with suppress(RuntimeError):  # the lanes have ended
                self._delivery.reply(lane, answer)

        def count(kind: str) -> None:
            self._status.count(kind)
            self._metrics.bot.labels(kind).inc()

        def recent(alert_id: str) -> Alert | None:
            found = (history.find(alert_id) for history in list(self._histories.values()))
            return next((alert for alert in found if alert is not None), None)

        self._bot = BotThread(self._settings, reply=reply, standing=lambda: self._standing, recent=recent, count=count)
        self._bot.start()

    def _stop_bot(self) -> None:
        if self._bot is not None:
            self._bot.stop(STOP_SECONDS)
            self._bot = None

    def _check_telegram(self) -> None:
        client = self._channels.telegram
        if client is None:
            return
        name = self._delivery.call(client.check())
        if name:
            log.info("telegram_ready", bot=name, chats=len(self._delivery.lanes) - 1)
        else:
            log.warning("telegram_not_reachable", url=self._settings.telegram_api_url)

    def _loop(self) -> None:
        while not self._service.stopping.is_set():
            messages = self._intake.read(POLL_SECONDS)
            self._act(self._actions.read())
            for message in messages:
                self._take(message)
            self._settle()
            self._intake.pause(is_paused=self._ledger.open_count > MOST_OPEN)
            self._intake.commit(self._ledger.committable())

    def _act(self, actions: Sequence[AlertAction]) -> None:
        """Let acknowledgements and mutes hold from now on."""
        if actions:
            self._standing = self._standing.after(actions)
            self._status.count("actions", len(actions))

    def _stop(self) -> None:
        """Let sends under way end, then commit what is settled; the rest is told after the next start."""
        self._stop_bot()
        self._delivery.stop(STOP_SECONDS)
        self._settle()
        if self._producer is not None:
            self._producer.flush(STOP_SECONDS)
        self._ledger.commit_failed(list(self._histories))
        self._intake.commit(self._ledger.committable(), wait=True)

    def _assigned(self, committed: dict[int, int | None]) -> None:
        for number, offset in committed.items():
            self._histories[number] = History()
            self._crossings[number] = Crossings(self._settings.summary_detections)
            self._told_before[number] = offset or 0
        if not self._status.ready:
            self._service.ready("waiting for alerts")

    def _revoked(self, partitions: Sequence[int]) -> None:
        self._delivery.drop(partitions)
        self._settle()
        self._intake.commit(self._ledger.committable(), wait=True)
        self._ledger.forget(partitions)
        for number in partitions:
            self._histories.pop(number, None)
            self._crossings.pop(number, None)
        gone = [position for position in self._raw if position.partition in partitions]
        for position in gone:
            del self._raw[position]

    def _take(self, message: Any) -> None:
        """Decode one message, decide, and hand it on."""
        position = Position(partition=message.partition(), offset=message.offset())
        history = self._histories.get(position.partition)
        if history is None:
            return  # of a partition that was taken away meanwhile: its new owner reads it
        is_reminder = position.offset < self._told_before[position.partition]
        try:
            alert = avro.decode(message.value(), Alert)
        except RefusedError as refused:
            if not is_reminder:
                self._ledger.read(position, (DEAD_LETTER_LANE,))
                self._bury(position, message, Stage.DECODE, refused.reason, refused.detail)
            return
        now = from_millis(max(0, message.timestamp()[1])) if is_reminder else datetime.now(UTC)
        mute = self._standing.mute_of(alert, now)
        decision = history.take(alert, mute.target.scope if mute else None)
        is_crossing = decision.is_new and self._crossings[position.partition].passes(alert)
        if is_reminder:
            return
        self._count(decision)
        if not decision.is_told:
            self._ledger.read(position, ())
            return
        change = Waiting(position=position, alert=alert)
        chats = self._delivery.lanes_of("telegram") if is_crossing else ()
        summary_owed = [change.summary_owed_by(lane) for lane in chats]
        self._ledger.read(position, (*self._delivery.lanes, *summary_owed))
        self._raw[position] = message
        self._delivery.submit(change)
        if chats:
            self._summaries.ask(change)

    def _count(self, decision: Decision) -> None:
        self._metrics.decisions.labels(decision.value).inc()
        kind = "alerts" if decision.is_told else "muted" if decision.is_muted else "duplicates"
        self._status.count(kind)

    def _settle(self) -> None:
        """Take in what the lanes report and what became of dead letters."""
        if self._producer is not None:
            self._producer.poll(0)
        for gathered in self._summaries.ready():
            self._tell_summary(gathered)
        for report in self._delivery.reports():
            if isinstance(report, Retrying):
                self._retrying(report)
            elif isinstance(report.outcome, Delivered):
                self._delivered(report, report.outcome)
            else:
                self._refused(report, report.outcome)
        self._metrics.waiting.set(self._ledger.open_count)
        if self._channels.outbox is not None:
            self._metrics.outbox.set(not self._channels.outbox.hint)

    def _tell_summary(self, change: Waiting) -> None:
        """Hand a summary on; one that cannot be had is owed no longer."""
        if change.status is None:
            self._status.count("summaries_failed")
            for lane in self._delivery.lanes_of("telegram"):
                self._ledger.settle(change.position, change.summary_owed_by(lane), is_delivered=False)
        elif change.position.partition in self._histories:
            self._delivery.submit(change, self._delivery.lanes_of("telegram"))

    def _delivered(self, report: Settled, delivered: Delivered) -> None:
        now = datetime.now(UTC)
        changes = [change for change in report.changes if change.status is None]
        for change in report.changes:
            is_first = self._ledger.settle(change.position, change.owed_by(report.lane), is_delivered=True)
            if is_first and change.status is None:
                self._status.count("notified")
            if not delivered.is_from_before:
                self._metrics.delay.labels(report.channel).observe(
                    max(0.0, (now - change.alert.ingest_time).total_seconds())
                )
            self._forget_raw(change.position)
        self._status.count(f"notified_{report.channel}", len(changes))
        if len(report.changes) > len(changes):
            self._status.count("summaries", len(report.changes) - len(changes))
        self._metrics.notices.labels(report.channel, "delivered").inc(len(report.changes))
        self._troubled.pop(report.lane, None)
        self._say()

    def _refused(self, report: Settled, refused: Refused) -> None:
        count = len(report.changes)
        self._status.count("refused", count)
        self._metrics.notices.labels(report.channel, refused.reason.value).inc(count)
        log.error(
            "notice_refused",
            lane=report.lane,
            reason=refused.reason.value,
            detail=refused.detail,
            alerts=count,
        )
        self._troubled.pop(report.lane, None)
        for change in report.changes:
            message = self._raw.get(change.position)
            if message is None:
                continue  # of a partition that another consumer owns now
            detail = f"{report.lane}: {refused.reason.value}: {refused.detail}"
            owed = change.owed_by(report.lane)
            self._bury(change.position, message, Stage.NOTIFY, NOTIFY_REASON, detail, lane=owed)
        self._say()

    def _retrying(self, report: Retrying) -> None:
        self._status.count("retries")
        self._metrics.retries.labels(report.channel, report.outcome.reason.value).inc()
        if report.lane not in self._troubled:
            log.warning(
                "channel_in_trouble",
                lane=report.lane,
                reason=report.outcome.reason.value,
                detail=report.outcome.detail,
                seconds=round(report.seconds, 1),
            )
        self._troubled[report.lane] = report.outcome.reason
        self._say()

    def _say(self) -> None:
        """Put the state into a phrase; only a refused token is a problem that a person must solve."""
        is_refused = RetryReason.TOKEN_REFUSED in self._troubled.values()
        self._status.problem = BAD_TOKEN if is_refused else ""
        if self._service.stopping.is_set():
            return
        self._status.doing = f"sent {self._status.counters.get('notified', 0)} notices"
        if self._bot is not None and self._bot.trouble:
            self._status.doing += f"; {self._bot.trouble}"
        if self._channels.outbox is not None and self._channels.outbox.hint:
            self._status.doing += f"; {self._channels.outbox.hint}"
        for lane, reason in self._troubled.items():
            trouble = reason.value.lower().replace("_", " ")
            self._status.doing = f"{lane} {trouble}, {self._delivery.waiting()[lane]} notices wait"

    def _bury(  # noqa: PLR0913  # a position and a verdict
        self,
        position: Position,
        message: Any,
        stage: Stage,
        reason: Reason,
        detail: str,
        *,
        lane: str = DEAD_LETTER_LANE,
    ) -> None:
        """Send a dead letter; the lane counts as settled when the broker has it."""
        letter = DeadLetter.of(
            topic=topics.ALERTS,
            partition=position.partition,
            offset=position.offset,
            broker_time=from_millis(max(0, message.timestamp()[1])),
            key=message.key(),
            value=message.value(),
            stage=stage,
            reason=reason,
            detail=detail,
        )

        def reported(error: Any, _message: Any) -> None:
            if error is None:
                self._status.count("dead_lettered")
                self._ledger.settle(position, lane, is_delivered=False)
                self._forget_raw(position)
            else:
                log.warning("dead_letter_not_delivered", error=str(error))
                self._bury(position, message, stage, reason, detail, lane=lane)

        if self._producer is None:
            self._producer = Producer(kafka.producer_config(self._settings))
        self._producer.produce(topics.DEAD_LETTERS, avro.encode(letter), key=message.key(), on_delivery=reported)

    def _forget_raw(self, position: Position) -> None:
        if not self._ledger.is_open(position):
            self._raw.pop(position, None)


def run(settings: Settings, service: Service, channels: Channels) -> int:
    """Run the alerting process; see ``Alerting``."""
    return Alerting(settings, service, channels).run()
