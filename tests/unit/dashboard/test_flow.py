"""What is said of the pipeline from looks at its offsets: rates, lag, and who stands still."""

from __future__ import annotations

import pytest

from dashboard import flow
from dashboard.flow import Health
from fleetwatch import topics
from tests.unit.dashboard.factories import look

GROUP = topics.GROUP_ALERTING  # reads one topic: fleet.alerts


def judged(looks):
    return next(reader for reader in flow.readers(looks) if reader.group == GROUP)


def test_rates_are_of_the_last_seconds_only():
    looks = [look(0, alerts=0), look(80, alerts=1_000), look(90, alerts=1_100)]
    assert flow.rates(looks)[topics.ALERTS] == pytest.approx(10.0)
    assert flow.rates(looks)[topics.SCORED] == 0.0
    assert flow.rates(looks[:1]) == {}


def test_a_topic_that_begins_again_gives_no_negative_rate():
    assert flow.rates([look(0, alerts=500), look(2, alerts=3)])[topics.ALERTS] == 0


@pytest.mark.parametrize(
    ("looks", "health"),
    [
        # nothing waits: fine, also when nothing ever came
        ([look(0), look(20)], Health.WELL),
        # all of it was worked off
        ([look(0, alerts=10, committed=10)], Health.WELL),
        # something waits, and the last commit was lately
        ([look(0, alerts=90, committed=80), look(15, alerts=100, committed=90)], Health.WELL),
        # something waits for 12 s and more, and nothing was committed
        ([look(0, alerts=90, committed=80), look(13, alerts=91, committed=80)], Health.STANDS),
        # the same, but it began to wait just now
        ([look(0, alerts=80, committed=80), look(13, alerts=91, committed=80)], Health.WELL),
        # it moves, but more waits than came in ten seconds
        ([look(0, alerts=5_000, committed=10), look(10, alerts=5_100, committed=20)], Health.BEHIND),
        # much waits and nothing is known of before
        ([look(0, alerts=5_000, committed=10)], Health.UNKNOWN),
    ],
)
def test_a_reader_is_judged_by_its_commits(looks, health):
    assert judged(looks).health is health


def test_readers_say_where_it_waits_and_how_fast_it_goes():
    reader = judged([look(0, alerts=100, committed=50), look(10, alerts=100, committed=80)])
    assert (reader.lag, reader.committed_per_second) == (20, pytest.approx(3.0))
    assert reader.waiting == {(topics.ALERTS, 0): 20, (topics.ALERTS, 1): 0}


def test_the_worst_stands_first():
    looks = [look(0, alerts=90, committed=80), look(13, alerts=91, committed=80)]
    assert [reader.health for reader in flow.readers(looks)] == [Health.STANDS, Health.WELL, Health.WELL, Health.WELL]
    assert flow.readers([]) == []
