from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from random import Random

import pytest

from alerting import wording
from alerting.channels import limits_of
from alerting.lane import Lane, Retrying, Settled
from alerting.pacing import Limit, Pacer
from alerting.ports import Delivered, Notice, RefusalReason, Refused, Reply, RetryAfter, RetryReason, State
from alerting.render import telegram_group_html
from fleetwatch.records import Severity
from tests.fakes.alerts import ManualClock, ScriptedNotifier, waiting

DOWN = RetryAfter(reason=RetryReason.NOT_REACHABLE)


class Bench:
    """A lane over a scripted channel, driven step by step with a clock of its own."""

    def __init__(self, *outcomes, group_above=None, limits=(), shared=None):
        self.clock = ManualClock()
        self.notifier = ScriptedNotifier(outcomes, group_above=group_above, clock=self.clock)
        self.reports = []
        self.lane = Lane(
            self.notifier,
            self.reports.append,
            pacer=Pacer(*limits),
            shared=shared or Pacer(),
            clock=self.clock,
            random=Random(1),
        )

    async def run(self, *changes):
        for change in changes:
            self.lane.add(change)
        for _ in range(100):
            if not self.lane.waiting:
                return
            await self.lane.step()
        pytest.fail("the lane does not come to an end")

    @property
    def settled(self):
        return [
            ([change.alert.alert_id for change in report.changes], type(report.outcome))
            for report in self.reports
            if isinstance(report, Settled)
        ]

    @property
    def retries(self):
        return [report for report in self.reports if isinstance(report, Retrying)]


async def test_delivered_in_order():
    bench = Bench()
    await bench.run(waiting(1), waiting(2))
    assert bench.settled == [(["1"], Delivered), (["2"], Delivered)]


async def test_a_failure_that_passes_is_tried_again_with_growing_waits():
    bench = Bench(DOWN, DOWN, DOWN)
    await bench.run(waiting(1))
    assert bench.notifier.sent == [("1",)] * 4
    assert [report.attempt for report in bench.retries] == [1, 2, 3]
    assert bench.retries[0].seconds < bench.retries[1].seconds < bench.retries[2].seconds
    assert bench.settled == [(["1"], Delivered)]


async def test_after_a_success_backoff_starts_again():
    bench = Bench(DOWN, DOWN, Delivered(), DOWN)
    await bench.run(waiting(1), waiting(2))
    assert [report.attempt for report in bench.retries] == [1, 2, 1]


async def test_the_wait_that_a_channel_asks_for_is_kept():
    flood = RetryAfter(reason=RetryReason.RATE_LIMITED, delay=timedelta(seconds=17))
    bench = Bench(flood)
    await bench.run(waiting(1))
    first, second = bench.notifier.sent_at
    assert 17 <= second - first <= 17.5


async def test_a_refused_change_does_not_stop_the_next():
    bench = Bench(Refused(reason=RefusalReason.CHAT_NOT_FOUND))
    await bench.run(waiting(1), waiting(2))
    assert bench.settled == [(["1"], Refused), (["2"], Delivered)]


async def test_a_group_refused_for_its_text_is_tried_one_by_one():
    """One bad alert must not take its neighbours with it."""
    bad = Refused(reason=RefusalReason.BAD_MARKUP)
    bench = Bench(bad, Delivered(), bad, group_above=1)
    await bench.run(waiting(1), waiting(2), waiting(3))
    assert bench.notifier.sent == [("1", "2", "3"), ("1",), ("2",), ("3",)]
    assert bench.settled == [(["1"], Delivered), (["2"], Refused), (["3"], Delivered)]


async def test_a_group_refused_for_its_chat_is_refused_as_a_whole():
    bench = Bench(Refused(reason=RefusalReason.FORBIDDEN), group_above=1)
    await bench.run(waiting(1), waiting(2), waiting(3))
    assert bench.settled == [(["1", "2", "3"], Refused)]


async def test_what_is_sent_is_chosen_after_the_wait():
    """A critical change that arrives while the lane waits for its pace goes first."""
    bench = Bench(limits=(Limit(1, 1.0),))
    bench.lane.add(waiting(1))
    bench.lane.add(waiting(2))
    await bench.lane.step()

    class Late(ManualClock):
        async def sleep(self, seconds):
            bench.lane.add(waiting(3, severity=Severity.CRITICAL))
            await super().sleep(seconds)

    late = Late()
    late.seconds = bench.clock.seconds
    bench.lane._clock = late
    await bench.lane.step()
    assert bench.notifier.sent == [("1",), ("3",)]


async def test_during_an_outage_a_storm_becomes_a_group():
    bench = Bench(DOWN, group_above=3)
    bench.lane.add(waiting(0))
    await bench.lane.step()
    await bench.run(*(waiting(n) for n in range(1, 6)))
    assert bench.notifier.sent == [("0",), ("0", "1", "2", "3", "4", "5")]


async def test_pace_of_the_destination():
    bench = Bench(limits=(Limit(1, 1.0),))
    await bench.run(*(waiting(n) for n in range(4)))
    sent_at = bench.notifier.sent_at
    assert [later - earlier for earlier, later in pairwise(sent_at)] == [1.0, 1.0, 1.0]


async def test_pace_of_all_destinations_together():
    shared = Pacer(Limit(2, 1.0))
    one, two = Bench(shared=shared), Bench(shared=shared)
    two.lane._clock = one.clock
    one.lane.add(waiting(1))
    one.lane.add(waiting(2))
    two.lane.add(waiting(1))
    await one.lane.step()
    await one.lane.step()
    await two.lane.step()
    assert one.clock.slept == [1.0]


async def test_a_bug_in_a_channel_is_a_retry_not_the_end(caplog):
    bench = Bench(RuntimeError("secret-in-the-text"))
    await bench.run(waiting(1))
    assert bench.retries[0].outcome.reason is RetryReason.CHANNEL_FAILED
    assert bench.settled == [(["1"], Delivered)]
    assert "secret-in-the-text" not in caplog.text + repr(bench.reports)


async def test_changes_of_a_partition_that_was_taken_away_are_not_sent():
    bench = Bench()
    bench.lane.add(waiting(1))
    bench.lane.add(waiting(2, partition=1))
    bench.lane.drop({0})
    await bench.run()
    assert bench.notifier.sent == [("2",)]


async def test_a_storm_of_five_thousand_reaches_a_chat_within_minutes():
    """One message a second, some thirty alerts a message; a critical alert in the middle does not wait for it."""

    class Chat(ScriptedNotifier):
        def compose(self, changes, now):
            text, taken = telegram_group_html(changes, now, wording.catalog("en"))
            return Notice(changes=tuple(changes[:taken]), text=text)

    clock = ManualClock()
    chat = Chat(group_above=3, clock=clock)
    lane = Lane(
        chat,
        lambda _report: None,
        pacer=Pacer(*limits_of("telegram:42")),
        shared=Pacer(),
        clock=clock,
        random=Random(1),
    )
    for number in range(5000):
        lane.add(waiting(number, rule=f"rule-{number % 3}"))
    for _ in range(10):
        await lane.step()
    lane.add(waiting(9999, severity=Severity.CRITICAL))
    await lane.step()
    assert chat.sent[-1] == ("9999",)
    while lane.waiting:
        await lane.step()
    assert sum(len(ids) for ids in chat.sent) == 5001
    assert clock.seconds - 1000 < 300


# --- the outbox


class MemoryOutbox:
    """Keeps states in memory; ``is_away`` knows and writes nothing."""

    def __init__(self, **known):
        self.states = {(alert_id, "FIRING"): state for alert_id, state in known.items()}
        self.is_away = False
        self.began: list[str] = []

    async def look(self, _lane, changes):
        found = {change.key: self.states.get((change.alert.alert_id, change.told.value)) for change in changes}
        return {key: state for key, state in found.items() if state is not None and not self.is_away}

    async def begin(self, lane, changes):
        self.began += [change.alert.alert_id for change in changes]
        await self.end(lane, changes, None, State.UNKNOWN)

    async def end(self, _lane, changes, _outcome, state):
        if not self.is_away:
            self.states |= {(change.alert.alert_id, change.told.value): state for change in changes}

    def state(self, alert_id):
        return self.states.get((alert_id, "FIRING"))


class Marking(ScriptedNotifier):
    """Remembers which changes it marked as a possible repeat."""

    def compose(self, changes, now):
        self.marked = [*getattr(self, "marked", []), *(c.alert.alert_id for c in changes if c.is_repeat)]
        return super().compose(changes, now)


def outbox_bench(outbox, *outcomes, group_above=None):
    bench = Bench(*outcomes)
    bench.notifier = Marking(outcomes, group_above=group_above, clock=bench.clock)
    bench.lane = Lane(
        bench.notifier,
        bench.reports.append,
        pacer=Pacer(),
        shared=Pacer(),
        clock=bench.clock,
        random=Random(1),
        outbox=outbox,
    )
    return bench


async def test_the_outbox_decides_what_is_said_again_after_a_restart():
    outbox = MemoryOutbox(
        **{"1": State.SENT, "2": State.UNKNOWN, "3": State.REFUSED, "4": State.RETRYING},
    )
    bench = outbox_bench(outbox)
    await bench.run(*(waiting(n) for n in range(1, 6)))
    assert bench.notifier.sent == [("2",), ("4",), ("5",)]
    assert bench.notifier.marked == ["2"]
    assert bench.settled == [
        (["1"], Delivered), (["2"], Delivered), (["3"], Refused), (["4"], Delivered), (["5"], Delivered),
    ]  # fmt: skip
    assert outbox.began == ["2", "4", "5"]
    assert [outbox.state(number) for number in "12345"] == [
        State.SENT,
        State.SENT,
        State.REFUSED,
        State.SENT,
        State.SENT,
    ]


async def test_no_answer_leaves_it_unknown_and_marks_the_next_try_a_no_for_now_does_not():
    silent = RetryAfter(reason=RetryReason.TIMED_OUT, may_have_arrived=True)
    for first, state, marked in ((silent, State.UNKNOWN, ["1"]), (DOWN, State.RETRYING, [])):
        outbox = MemoryOutbox()
        bench = outbox_bench(outbox, first)
        bench.lane.add(waiting(1))
        await bench.lane.step()
        assert outbox.state("1") is state
        await bench.lane.step()
        assert outbox.state("1") is State.SENT
        assert bench.notifier.marked == marked


async def test_a_group_that_is_tried_one_by_one_is_not_refused_in_the_outbox():
    outbox = MemoryOutbox()
    bad = Refused(reason=RefusalReason.BAD_MARKUP)
    bench = outbox_bench(outbox, bad, Delivered(), bad, group_above=1)
    bench.lane.add(waiting(1))
    bench.lane.add(waiting(2))
    await bench.lane.step()
    assert outbox.state("1") is outbox.state("2") is State.RETRYING
    await bench.run()
    assert (outbox.state("1"), outbox.state("2")) == (State.SENT, State.REFUSED)


async def test_without_its_store_everything_is_sent_as_if_there_were_no_outbox():
    outbox = MemoryOutbox(**{"1": State.SENT})
    outbox.is_away = True
    bench = outbox_bench(outbox)
    await bench.run(waiting(1), waiting(2))
    assert bench.notifier.sent == [("1",), ("2",)]
    assert bench.notifier.marked == []


# --- answers to people


async def test_answers_go_after_critical_changes_and_before_the_others_and_get_old():
    bench = Bench()
    spoken = []

    class Speaking(ScriptedNotifier):
        async def speak(self, reply):
            spoken.append((reply.text, len(self.sent)))
            return Delivered()

    notifier = Speaking(clock=bench.clock)
    lane = Lane(notifier, bench.reports.append, pacer=Pacer(), shared=Pacer(), clock=bench.clock, random=Random(1))
    lane.reply(Reply(text="too old"))
    bench.clock.seconds += 500
    lane.reply(Reply(text="answer"))
    lane.add(waiting(1))
    lane.add(waiting(2, severity=Severity.CRITICAL))
    for _ in range(4):
        await lane.step()
    assert notifier.sent == [("2",), ("1",)]
    assert spoken == [("answer", 1)]
