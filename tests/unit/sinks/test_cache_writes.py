"""What a batch means for the cache."""

from __future__ import annotations

import json
import math
from datetime import timedelta

from fleetwatch.records import Scope
from sinks.cache_writes import KEPT_EVENTS, Call, calls_of
from sinks.resp import packed
from tests.unit.sinks.samples import NOW, NOW_MS, alert, detection, scored, stretch, window


def _fields(call: Call, first: int, count: int) -> dict[str, object]:
    pairs = call.arguments[first : first + count]
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def _device(call: Call) -> dict[str, object]:
    return _fields(call, 3, int(call.arguments[2]))


def _events(call: Call) -> list[dict[str, object]]:
    return [json.loads(text) for text in call.arguments[3 + int(call.arguments[2]) + 2 :: 3]]


def test_only_the_newest_value_of_a_device_is_sent_whatever_the_order():
    [call] = calls_of(stretch(scored(seq=2), scored(seq=5), scored(seq=1)), now_ms=99)
    assert call.keys == ("device:press-1", "device:press-1:events", "devices:last_seen")
    assert _device(call) == {
        "kind": "sensor", "sensor_type": "temperature", "site": "north", "value": 25.0, "unit": "Cel",
        "online_score": 0.25, "batch_score": "", "score": 0.5, "verdict": "NORMAL", "state": "READY",
        "event_time_ms": NOW_MS + 5000, "seq": 5, "ingest_ms": NOW_MS + 5005, "cached_ms": 99,
    }  # fmt: skip
    assert [event["seq"] for event in _events(call)] == [5, 2, 1]


def test_a_batch_sends_at_most_the_events_that_are_kept():
    [call] = calls_of(stretch(*(scored(seq=n) for n in range(250))), now_ms=1)
    assert [event["seq"] for event in _events(call)] == list(range(249, 249 - KEPT_EVENTS, -1))


def test_an_event_that_is_twice_in_a_batch_is_sent_once():
    [call] = calls_of(stretch(scored(), scored()), now_ms=1)
    assert len(_events(call)) == 1


def test_a_camera_has_label_and_confidence_and_the_brokers_time():
    [call] = calls_of(stretch(detection(seq=3)), now_ms=7)
    assert _device(call) == {
        "kind": "camera", "site": "gate", "label": "person", "confidence": 0.9,
        "event_time_ms": NOW_MS + 3000, "seq": 3, "ingest_ms": NOW_MS, "cached_ms": 7,
    }  # fmt: skip
    assert _events(call) == [
        {"event_time_ms": NOW_MS + 3000, "seq": 3, "label": "person", "confidence": 0.9,
         "ingest_ms": NOW_MS, "cached_ms": 7}
    ]  # fmt: skip


def test_one_window_per_key_and_partition_is_left_the_highest():
    later = window(window_start=NOW + timedelta(seconds=10), included_offset=1)
    calls = calls_of(
        stretch(
            window(included_offset=12, is_final=True),
            window(included_offset=90),
            window(source_partition=1),
            window(scope=Scope.SITE, key="north"),
            window("press-2"),
            later,
            window("press-2", included_offset=5),
        ),
        now_ms=1,
    )
    found = {(call.keys[0], call.arguments[0]): call.arguments[1:4] for call in calls}
    assert found == {
        ("window:DEVICE:press-1", "fleet.readings/0:"): (NOW_MS + 10_000, 0, 1),
        ("window:DEVICE:press-1", "fleet.readings/1:"): (NOW_MS, 0, 10),
        ("window:SITE:north", "fleet.readings/0:"): (NOW_MS, 0, 10),
        ("window:DEVICE:press-2", "fleet.readings/0:"): (NOW_MS, 0, 10),
    }


def test_a_final_window_goes_before_an_early_one():
    [call] = calls_of(stretch(window(is_final=True), window(included_offset=90)), now_ms=1)
    assert call.arguments[2] == 1


def test_resolved_wins_over_firing_whatever_the_order():
    for batch in ([alert(), alert(is_open=False)], [alert(is_open=False), alert()]):
        [call] = calls_of(stretch(*batch), now_ms=1)
        assert call.arguments[1] == "RESOLVED"


def test_an_alert_is_json_with_times_in_milliseconds():
    [call] = calls_of(stretch(alert()), now_ms=1)
    plain = json.loads(str(call.arguments[2]))
    assert plain["started_at_ms"] == NOW_MS
    assert plain["ended_at_ms"] is None
    assert plain["severity"] == "WARNING"
    assert plain["summary"] == "press-1 is too hot"


def test_what_a_reading_lacks_is_empty_in_the_hash_and_null_in_json():
    [call] = calls_of(stretch(scored(score=None, value=math.inf)), now_ms=1)
    assert (_device(call)["score"], _device(call)["value"]) == ("", math.inf)
    [found] = _events(call)
    assert (found["score"], found["value"]) == (None, math.inf)


def test_names_and_labels_may_hold_anything():
    odd = 'a"\\\n{}\u2028 \U0001f600'
    [sensor, camera] = calls_of(stretch(scored(odd), detection(odd, label=odd)), now_ms=1)
    assert sensor.keys[0] == f"device:{odd}"
    assert _events(camera)[0]["label"] == odd
    assert _device(camera)["label"] == odd


def test_calls_are_packed_as_redis_py_packs_them():
    from redis.connection import Connection

    for call in calls_of(stretch(scored("\xfc"), detection(), window(), alert()), now_ms=1):
        command = Connection().pack_command("EVALSHA", "f" * 40, len(call.keys), *call.keys, *call.arguments)
        assert packed("f" * 40, call.keys, call.arguments) == b"".join(command)
