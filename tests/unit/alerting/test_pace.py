from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.backoff import MOST_SECONDS, backoff_seconds
from alerting.channels import limits_of
from alerting.pacing import Limit, Pacer


def test_without_limits_there_is_no_wait():
    pacer = Pacer()
    pacer.record(1.0)
    assert pacer.wait(1.0) <= 0


def test_one_a_second():
    pacer = Pacer(Limit(1, 1.0))
    assert pacer.wait(10.0) <= 0
    pacer.record(10.0)
    assert pacer.wait(10.25) == pytest.approx(0.75)
    assert pacer.wait(11.0) <= 0


def test_the_slowest_limit_decides():
    pacer = Pacer(Limit(1, 1.0), Limit(3, 60.0))
    for second in (0.0, 1.0, 2.0):
        assert pacer.wait(second) <= 0
        pacer.record(second)
    assert pacer.wait(3.0) == pytest.approx(57.0)


@given(st.lists(st.floats(0, 3), min_size=1, max_size=80), st.integers(1, 5), st.floats(0.5, 10))
def test_no_window_ever_holds_more_than_the_limit(gaps, count, seconds):
    pacer = Pacer(Limit(count, seconds))
    now = 0.0
    sent = []
    for gap in gaps:
        now += gap
        now += max(0.0, pacer.wait(now))
        pacer.record(now)
        sent.append(now)
    for earlier, later in zip(sent, sent[count:], strict=False):
        assert later - earlier >= seconds - 1e-6


@pytest.mark.parametrize(
    ("lane", "seconds_for_25"),
    [
        pytest.param("console", 0, id="the console takes all at once"),
        pytest.param("telegram:42", 24, id="a person: one a second"),
        pytest.param("telegram:-10042", 64, id="a group: twenty a minute"),
    ],
)
def test_pace_of_each_kind_of_destination(lane, seconds_for_25):
    pacer = Pacer(*limits_of(lane))
    now = 0.0
    for _ in range(25):
        now += max(0.0, pacer.wait(now))
        pacer.record(now)
    assert now == pytest.approx(seconds_for_25)


@given(st.integers(1, 10_000), st.integers())
def test_backoff_grows_stays_bounded_and_is_spread(attempt, seed):
    whole = min(MOST_SECONDS, 0.5 * 2.0 ** min(attempt - 1, 30))
    assert whole / 2 <= backoff_seconds(attempt, Random(seed)) <= whole


def test_backoff_of_one_seed():
    random = Random(1)
    assert [round(backoff_seconds(attempt, random), 2) for attempt in (1, 2, 3, 4, 9)] == [
        0.28,
        0.92,
        1.76,
        2.51,
        22.43,
    ]
