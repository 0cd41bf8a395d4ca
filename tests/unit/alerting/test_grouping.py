from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alerting.grouping import MOST_IN_GROUP, Backlog
from fleetwatch.records import Severity
from tests.fakes.alerts import waiting


def ids(changes):
    return [change.alert.alert_id for change in changes]


def backlog_of(*changes, group_above=3):
    backlog = Backlog(group_above)
    for change in changes:
        backlog.add(change)
    return backlog


def test_nothing_waits():
    assert backlog_of().next_changes() == ()


def test_first_come_first_told():
    assert ids(backlog_of(waiting(1), waiting(2)).next_changes()) == ["1"]


def test_critical_overtakes():
    backlog = backlog_of(waiting(1, severity=Severity.INFO), waiting(2), waiting(3, severity=Severity.CRITICAL))
    assert ids(backlog.next_changes()) == ["3"]


def test_info_does_not_wait_for_warning():
    assert ids(backlog_of(waiting(1, severity=Severity.INFO), waiting(2)).next_changes()) == ["1"]


def test_up_to_the_limit_each_goes_alone_above_it_all_go_together():
    three = [waiting(n) for n in range(3)]
    assert ids(backlog_of(*three).next_changes()) == ["0"]
    assert ids(backlog_of(*three, waiting(3)).next_changes()) == ["0", "1", "2", "3"]


def test_other_rules_are_not_in_the_group():
    changes = [waiting(n, rule="one" if n % 2 else "two") for n in range(8)]
    assert ids(backlog_of(*changes).next_changes()) == ["0", "2", "4", "6"]


def test_other_severities_are_not_in_the_group():
    changes = [waiting(n, severity=Severity.INFO if n % 2 else Severity.WARNING) for n in range(8)]
    assert ids(backlog_of(*changes).next_changes()) == ["0", "2", "4", "6"]


def test_without_grouping_each_goes_alone():
    assert ids(backlog_of(*(waiting(n) for n in range(9)), group_above=None).next_changes()) == ["0"]


def test_a_group_is_bounded():
    assert len(backlog_of(*(waiting(n) for n in range(300))).next_changes()) == MOST_IN_GROUP


def test_changes_stay_until_removed():
    backlog = backlog_of(*(waiting(n) for n in range(4)))
    assert len(backlog.next_changes()) == 4
    backlog.remove(backlog.next_changes()[:2])
    assert ids(backlog.next_changes()) == ["2"]
    assert len(backlog) == 2


def test_kept_apart_each_goes_alone_and_later_ones_group_again():
    changes = [waiting(n) for n in range(10)]
    backlog = backlog_of(*changes[:4])
    backlog.keep_apart(changes[:4])
    for change in changes[4:]:
        backlog.add(change)
    told = []
    while backlog:
        told.append(ids(backlog.next_changes()))
        backlog.remove(backlog.next_changes())
    assert told == [["0"], ["1"], ["2"], ["3"], ["4", "5", "6", "7", "8", "9"]]


def test_a_partition_that_is_taken_away_leaves():
    backlog = backlog_of(waiting(1), waiting(1, partition=1), waiting(2, severity=Severity.CRITICAL))
    backlog.drop({0})
    assert len(backlog) == 1
    assert backlog.next_changes()[0].position.partition == 1


def test_the_same_change_waits_once():
    assert len(backlog_of(waiting(1), waiting(1))) == 1


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(Severity)), max_size=60),
    st.none() | st.integers(0, 5),
    st.integers(1, 5),
)
def test_everything_is_told_once_and_one_rule_in_order(kinds, group_above, fits):
    """A channel takes as many from the front of a group as fit; nothing is lost, doubled or reordered."""
    changes = [waiting(n, rule=rule, severity=severity) for n, (rule, severity) in enumerate(kinds)]
    backlog = backlog_of(*changes, group_above=group_above)
    told = []
    while backlog:
        taken = backlog.next_changes()[:fits]
        backlog.remove(taken)
        told.extend(taken)
    assert sorted(change.position.offset for change in told) == list(range(len(kinds)))
    for kind in set(kinds):
        same = [change.position.offset for change in told if (change.alert.rule, change.alert.severity) == kind]
        assert same == sorted(same)
