from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from random import Random

import pytest

from alerting import wording
from alerting.channels import limits_of
from alerting.lane import Lane, Retrying, Settled
from alerting.pacing import Limit, Pacer
from alerting.ports import Delivered, Notice, RefusalReason, Refused, RetryAfter, RetryReason
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
