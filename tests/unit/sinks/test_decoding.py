"""From events to records."""

from __future__ import annotations

import math

import pytest

from fleetwatch import topics
from fleetwatch.errors import RefusedError
from fleetwatch.records import Reason
from sinks.decoding import RECORD_OF, decode, is_dead_lettered_elsewhere
from tests.unit.sinks.samples import action, alert, broken, detection, event, letter, scored, window


@pytest.mark.parametrize("record", [scored(), detection(), window(), alert(), action(), letter()])
def test_each_record_comes_back_from_its_topic(record):
    assert decode(event(record), 300_000) == record


@pytest.mark.parametrize("topic", RECORD_OF)
def test_bytes_that_are_no_record_are_refused(topic: str):
    with pytest.raises(RefusedError):
        decode(broken(topic), 300_000)


def test_every_topic_of_the_two_groups_can_be_decoded():
    assert set(RECORD_OF) == {*topics.READ_BY[topics.GROUP_TIMESCALE], *topics.READ_BY[topics.GROUP_REDIS]}


def test_a_detection_is_checked_as_the_streams_check_it():
    with pytest.raises(RefusedError) as error:
        decode(event(detection(confidence=math.nan)), 300_000)
    assert error.value.reason is Reason.NOT_A_NUMBER


def test_only_device_input_and_dead_letters_need_no_dead_letter():
    assert {topic for topic in RECORD_OF if is_dead_lettered_elsewhere(topic)} == {
        topics.DETECTIONS,
        topics.DEAD_LETTERS,
    }
