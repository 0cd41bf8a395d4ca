"""Which offset may be committed: one past the longest prefix of delivered batches that is acknowledged."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.transport import Ledger


def delivered(*last_offsets: int) -> Ledger:
    ledger = Ledger()
    for offset in last_offsets:
        ledger.deliver(offset)
    return ledger


def test_nothing_may_be_committed_before_something_is_acknowledged() -> None:
    assert Ledger().committable is None
    assert delivered(9, 19).committable is None


def test_what_was_done_before_it_began_may_be_committed() -> None:
    ledger = Ledger(17)
    ledger.deliver(29)
    assert ledger.committable == 17
    assert ledger.ack(29)
    assert ledger.committable == 30


def test_in_order_each_acknowledgement_moves_it() -> None:
    ledger = delivered(9, 19)
    assert ledger.ack(9)
    assert (ledger.committable, ledger.waiting) == (10, 1)
    assert ledger.ack(19)
    assert (ledger.committable, ledger.waiting) == (20, 0)


def test_out_of_order_it_waits_for_the_one_that_is_held_back() -> None:
    ledger = delivered(9, 19, 29)
    assert ledger.ack(29)
    assert ledger.ack(19)
    assert (ledger.committable, ledger.waiting) == (None, 3)
    assert ledger.ack(9)
    assert (ledger.committable, ledger.waiting) == (30, 0)


def test_batches_delivered_later_wait_behind_it_as_well() -> None:
    ledger = delivered(9, 19)
    ledger.ack(19)
    ledger.deliver(29)
    ledger.ack(29)
    assert ledger.committable is None
    ledger.ack(9)
    assert ledger.committable == 30


def test_gaps_between_batches_do_not_matter() -> None:
    """Compaction and transaction markers leave holes in the offsets."""
    ledger = delivered(9, 5000)
    ledger.ack(9)
    ledger.ack(5000)
    assert ledger.committable == 5001


def test_an_acknowledgement_of_something_unknown_changes_nothing() -> None:
    ledger = delivered(9)
    assert not ledger.ack(8)
    assert not ledger.ack(19)
    assert (ledger.committable, ledger.waiting) == (None, 1)


def test_a_second_acknowledgement_is_unknown_once_the_first_has_counted() -> None:
    ledger = delivered(9, 19)
    assert ledger.ack(9)
    assert not ledger.ack(9)
    assert ledger.committable == 10


def test_what_is_delivered_again_must_be_acknowledged_again() -> None:
    """The state may not include it: an acknowledgement of the first delivery does not stand for the second."""
    ledger = delivered(9, 19)
    ledger.ack(19)
    ledger.deliver(19)
    ledger.ack(9)
    assert ledger.committable == 10
    ledger.ack(19)
    assert ledger.committable == 20


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 12), st.randoms(use_true_random=False), st.data())
def test_never_past_a_batch_that_is_not_acknowledged(count: int, random, data: st.DataObject) -> None:
    """Any order of acknowledgements, mixed with deliveries; it never goes back."""
    lasts = [10 * number + 9 for number in range(count)]
    ledger, acked, next_up = Ledger(), set[int](), 0
    before = 0
    while len(acked) < count:
        waiting = [last for last in lasts[:next_up] if last not in acked]
        if next_up < count and (not waiting or random.random() < 0.5):
            ledger.deliver(lasts[next_up])
            next_up += 1
            continue
        chosen = data.draw(st.sampled_from(waiting))
        assert ledger.ack(chosen)
        acked.add(chosen)
        prefix = next((number for number, last in enumerate(lasts) if last not in acked), count)
        expected = 10 * prefix if prefix else None
        assert ledger.committable == expected
        assert (ledger.committable or 0) >= before
        before = ledger.committable or 0
