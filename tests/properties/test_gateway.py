"""The gateway takes an event exactly when the pipeline would, and writes the record that was sent."""

from __future__ import annotations

import contextlib
import json
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetwatch import avro
from fleetwatch.errors import RefusedError
from fleetwatch.records import CameraDetection, Record, SensorReading, from_millis, to_millis
from fleetwatch.validate import check_detection, check_reading
from producers.gateway.intake import BadBodyError, Event, Intake
from producers.gateway.models import Detection, Incoming, Reading
from producers.gateway.sequence import Sequence
from tests.properties.strategies import BROKER_MS, MAX_SKEW_MS, records_of, texts, times, times_near_broker

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS: list[tuple[type[Incoming], type[Record], str, Callable[..., Record]]] = [
    (Reading, SensorReading, "device_id", check_reading),
    (Detection, CameraDetection, "camera_id", check_detection),
]
names = texts | st.text(st.sampled_from("ab\x00é"), max_size=3)
at_the_limit = st.sampled_from([BROKER_MS + MAX_SKEW_MS, BROKER_MS + MAX_SKEW_MS + 1])
event_times = times_near_broker | at_the_limit.map(from_millis) | times
any_json = st.recursive(st.none() | st.integers() | st.floats() | st.text(max_size=5), st.lists, max_leaves=4)


def plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


@pytest.mark.parametrize(("model", "record_type", "name_field", "check"), KINDS)
@given(data=st.data())
@settings(max_examples=80)
def test_the_gateway_and_the_pipeline_agree(
    data: st.DataObject,
    model: type[Incoming],
    record_type: type[Record],
    name_field: str,
    check: Callable[..., Record],
) -> None:
    floats = data.draw(st.sampled_from([st.floats(), st.floats(allow_nan=False, allow_infinity=False)]))
    given_fields = {name_field: names, "site": names, "event_time": event_times}
    record: Any = data.draw(records_of(record_type, floats=floats, **given_fields))
    intake = Intake(model, Sequence(), max_items=1, max_skew_ms=MAX_SKEW_MS)
    (item,) = intake.read(json.dumps(plain(record)).encode(), BROKER_MS * 1000)
    key = getattr(record, name_field).encode()
    try:
        usable: Record | None = check(key, avro.encode(record), BROKER_MS, MAX_SKEW_MS)
    except RefusedError:
        usable = None
    assert isinstance(item, Event) == (usable is not None)
    if isinstance(item, Event):
        assert check(item.key, item.value, BROKER_MS, MAX_SKEW_MS) == usable == record
        assert (item.device, item.event_ms, item.seq) == (
            getattr(record, name_field),
            to_millis(record.event_time),
            record.seq,
        )


@given(body=st.binary(max_size=60) | any_json.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=60)
def test_no_body_is_more_than_refused(body: bytes) -> None:
    """Any bytes and any JSON: events, refusals, or one reason; nothing else is raised."""
    intake = Intake(Reading, Sequence(), max_items=10, max_skew_ms=MAX_SKEW_MS)
    with contextlib.suppress(BadBodyError):
        assert intake.read(body, BROKER_MS * 1000)
