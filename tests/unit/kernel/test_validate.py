"""What makes an input event usable: an event has one reason, the first in a fixed order."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from fleetwatch import avro
from fleetwatch.errors import RefusedError
from fleetwatch.records import Box, CameraDetection, Reason, Stage, from_millis
from fleetwatch.validate import check_detection, check_reading, stage_of
from tests.unit.kernel.test_avro import READING

NOW_MS = 1_795_305_600_000
SKEW_MS = 300_000
DETECTION = CameraDetection(
    camera_id="cam-1",
    site="north",
    event_time=from_millis(NOW_MS),
    seq=1,
    label="person",
    confidence=0.5,
    box=Box(x=0.1, y=0.2, width=0.3, height=0.4),
)
AHEAD = from_millis(NOW_MS + SKEW_MS + 1)


def refusal_of_reading(key: bytes | None, value: bytes | None) -> Reason | None:
    try:
        check_reading(key, value, NOW_MS, SKEW_MS)
    except RefusedError as error:
        return error.reason
    return None


def refusal_of_detection(**changes: object) -> Reason | None:
    try:
        check_detection(b"cam-1", avro.encode(replace(DETECTION, **changes)), NOW_MS, SKEW_MS)
    except RefusedError as error:
        return error.reason
    return None


def test_a_usable_event_comes_back_as_a_record():
    assert check_reading(b"temp-1", avro.encode(READING), NOW_MS, SKEW_MS) == READING
    assert check_detection(b"cam-1", avro.encode(DETECTION), NOW_MS, SKEW_MS) == DETECTION


def test_the_order_of_the_reasons():
    """Each step mends the first thing wrong with an event in which everything is wrong."""
    huge = "x" * avro.MAX_EVENT_BYTES
    bad = replace(READING, device_id="", value=math.inf, event_time=AHEAD)
    steps = [
        (b"", b"", Reason.EMPTY_VALUE),
        (b"", b"\x01" + huge.encode(), Reason.TOO_LARGE),
        (b"", b"\x01\x02\x03\x04\x05", Reason.EMPTY_KEY),
        (b"other", b"\x01" + avro.encode(bad)[1:-1], Reason.NOT_FRAMED),
        (b"other", b"\x00\x00\x00\x00\x00" + avro.encode(bad)[5:-1], Reason.UNKNOWN_SCHEMA),
        (b"other", avro.frame_header(CameraDetection) + avro.encode(bad)[5:-1], Reason.WRONG_SCHEMA),
        (b"other", avro.encode(bad)[:-1], Reason.TRUNCATED),
        (b"other", avro.encode(bad) + b"\x00", Reason.TRAILING_BYTES),
        (b"other", avro.encode(bad)[:-1] + b"\x01", Reason.MALFORMED),
        (b"other", avro.encode(bad), Reason.KEY_MISMATCH),
        (b"temp-1", avro.encode(replace(bad, device_id="temp-1", value=math.nan)), Reason.NOT_A_NUMBER),
        (b"temp-1", avro.encode(replace(bad, device_id="temp-1")), Reason.INFINITE),
        (b"temp-1", avro.encode(replace(bad, device_id="temp-1", value=1.0)), Reason.TOO_FAR_AHEAD),
        (b"temp-1", avro.encode(READING), None),
    ]
    for key, value, expected in steps:
        assert refusal_of_reading(key, value) is expected


@pytest.mark.parametrize("key", [None, b"temp-", b"temp-10", b"TEMP-1", b"\xff\xfe"])
def test_the_key_must_be_the_device(key: bytes | None):
    expected = Reason.KEY_MISMATCH if key else Reason.EMPTY_KEY
    assert refusal_of_reading(key, avro.encode(READING)) is expected


def test_a_device_id_beyond_ascii_is_compared_as_utf_8():
    value = avro.encode(replace(READING, device_id="größe"))
    assert refusal_of_reading("größe".encode(), value) is None
    assert refusal_of_reading("größe".encode("latin-1"), value) is Reason.KEY_MISMATCH


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["confidence", "x", "y", "width", "height"])
def test_every_number_of_a_detection_must_be_finite(bad: float, place: str):
    changes = {"confidence": bad} if place == "confidence" else {"box": replace(DETECTION.box, **{place: bad})}
    assert refusal_of_detection(**changes) is (Reason.NOT_A_NUMBER if math.isnan(bad) else Reason.INFINITE)


def test_the_first_number_of_a_detection_names_the_reason():
    box = replace(DETECTION.box, x=math.nan)
    assert refusal_of_detection(confidence=math.inf, box=box) is Reason.INFINITE
    assert refusal_of_detection(box=replace(box, height=math.inf)) is Reason.NOT_A_NUMBER


@pytest.mark.parametrize(
    ("ahead_ms", "expected"),
    [(SKEW_MS, None), (SKEW_MS + 1, Reason.TOO_FAR_AHEAD), (-(10**12), None)],
)
def test_an_event_may_be_as_far_ahead_as_the_skew_and_as_old_as_it_likes(ahead_ms: int, expected: Reason | None):
    time = from_millis(NOW_MS + ahead_ms)
    assert refusal_of_reading(b"temp-1", avro.encode(replace(READING, event_time=time))) is expected
    assert refusal_of_detection(event_time=time) is expected


def test_the_year_2200_is_too_far_ahead():
    with pytest.raises(RefusedError, match=r"TOO_FAR_AHEAD: event time is [0-9]+ s ahead"):
        check_reading(
            b"temp-1", avro.encode(replace(READING, event_time=from_millis(7_258_118_400_000))), NOW_MS, SKEW_MS
        )


def test_which_stage_refuses_for_which_reason():
    validating = {Reason.KEY_MISMATCH, Reason.NOT_A_NUMBER, Reason.INFINITE, Reason.TOO_FAR_AHEAD}
    decoding = {
        Reason.EMPTY_VALUE,
        Reason.TOO_LARGE,
        Reason.EMPTY_KEY,
        Reason.NOT_FRAMED,
        Reason.UNKNOWN_SCHEMA,
        Reason.WRONG_SCHEMA,
        Reason.TRUNCATED,
        Reason.TRAILING_BYTES,
        Reason.MALFORMED,
    }
    assert {stage_of(reason) for reason in validating} == {Stage.VALIDATE}
    assert {stage_of(reason) for reason in decoding} == {Stage.DECODE}
