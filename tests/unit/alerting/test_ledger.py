from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alerting.ledger import Ledger
from alerting.ports import Position

LANES = ("console", "telegram:1")


def at(offset, partition=0):
    return Position(partition=partition, offset=offset)


def settle(ledger, offset, lane, *, is_delivered=True, partition=0):
    return ledger.settle(at(offset, partition), lane, is_delivered=is_delivered)


def test_an_offset_is_committable_when_every_lane_has_answered():
    ledger = Ledger()
    ledger.read(at(5), LANES)
    assert ledger.committable() == {}
    settle(ledger, 5, "console")
    assert ledger.committable() == {}
    settle(ledger, 5, "telegram:1", is_delivered=False)
    assert ledger.committable() == {0: 6}


def test_an_open_message_holds_back_those_behind_it():
    ledger = Ledger()
    ledger.read(at(5), ("console",))
    ledger.read(at(6), ("console",))
    ledger.read(at(7), ())
    settle(ledger, 6, "console")
    assert ledger.committable() == {}
    assert ledger.open_count == 3
    settle(ledger, 5, "console")
    assert ledger.committable() == {0: 8}
    assert ledger.open_count == 0


def test_messages_that_nobody_is_told_of_are_committed_too():
    ledger = Ledger()
    ledger.read(at(0), ())
    assert ledger.committable() == {0: 1}


def test_partitions_do_not_hold_each_other_back():
    ledger = Ledger()
    ledger.read(at(0, 0), ("console",))
    ledger.read(at(3, 1), ())
    assert ledger.committable() == {1: 4}


def test_an_offset_is_asked_for_once_and_again_after_a_failed_commit():
    ledger = Ledger()
    ledger.read(at(0), ())
    assert ledger.committable() == {0: 1}
    assert ledger.committable() == {}
    ledger.commit_failed([0, 9])
    assert ledger.committable() == {0: 1}


def test_only_the_first_delivery_counts_as_notified():
    ledger = Ledger()
    ledger.read(at(0), LANES)
    ledger.read(at(1), LANES)
    assert settle(ledger, 0, "console") is True
    assert settle(ledger, 0, "telegram:1") is False
    assert settle(ledger, 1, "console", is_delivered=False) is False
    assert settle(ledger, 1, "telegram:1") is True


def test_late_answers_of_partitions_that_were_taken_away_change_nothing():
    ledger = Ledger()
    ledger.read(at(0), LANES)
    ledger.forget([0])
    assert settle(ledger, 0, "console") is False
    assert ledger.committable() == {}
    assert not ledger.is_open(at(0))


def test_a_message_is_open_until_the_last_answer():
    ledger = Ledger()
    ledger.read(at(0), LANES)
    settle(ledger, 0, "console")
    assert ledger.is_open(at(0))
    settle(ledger, 0, "telegram:1")
    assert not ledger.is_open(at(0))


@given(st.permutations([(offset, lane) for offset in range(6) for lane in LANES]))
def test_in_whatever_order_answers_come_nothing_unsettled_is_committed(order):
    ledger = Ledger()
    for offset in range(6):
        ledger.read(at(offset), LANES)
    open_answers = set(order)
    committed = 0
    for offset, lane in order:
        settle(ledger, offset, lane)
        open_answers.discard((offset, lane))
        committed = ledger.committable().get(0, committed)
        first_open = min((number for number, _ in open_answers), default=6)
        assert committed == first_open
