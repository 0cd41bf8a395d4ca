"""The mission's row "priority alerts": spikes of activity and anomalies have severities, critical ones go first.

The shipped rules judge a camera that suddenly sees a crowd and devices that behave unusually; the alerting process
tells a chat of what came out.
"""

from __future__ import annotations

import random
import uuid
from typing import TYPE_CHECKING

import pytest

from fleetwatch import topics
from fleetwatch.records import Alert, AlertState, Severity
from streams.lane import Lane
from streams.rules import load_rules
from tests.fakes.bot_api import BotApi
from tests.faults.alerting import CHAT, alerting, produce
from tests.services import wait_until
from tests.unit.streams.lanes import detection, event, make_settings, raw, reading, sent

if TYPE_CHECKING:
    from fleetwatch.settings import Settings

pytestmark = pytest.mark.integration

DEVICES = 20
READINGS = 120


def firing(topic: str, events: list[tuple[bytes | None, bytes | None, int]]) -> list[Alert]:
    """Return what the shipped rules fire over these events."""
    lane = Lane(topic, 0, make_settings(load_rules(), warm_up=40))
    alerts = sent(lane.process(raw(events, topic=topic), {}), topics.ALERTS)
    return [alert for alert in alerts if alert.state is AlertState.FIRING]


def crowd(mark: str) -> list[Alert]:
    """A camera sees 250 people in ten seconds."""
    return firing(topics.DETECTIONS, [event(detection(seq * 30, camera=f"{mark}-cam", seq=seq)) for seq in range(250)])


def anomalies(mark: str) -> list[Alert]:
    """Devices that are steady, and all jump at once."""
    noise = random.Random(3)
    steady = [
        reading(seq * 1000 + number, device=f"{mark}-{number:02}", seq=seq, value=round(20 + noise.gauss(0, 0.1), 3))
        for seq in range(READINGS)
        for number in range(DEVICES)
    ]
    jump = [reading(READINGS * 1000 + n, device=f"{mark}-{n:02}", seq=READINGS, value=40.0) for n in range(DEVICES)]
    return [
        alert for alert in firing(topics.READINGS, [event(found) for found in steady + jump]) if alert.value == 40.0
    ]


def test_what_is_critical_is_told_at_once_and_the_others_together(settings: Settings) -> None:
    mark = uuid.uuid4().hex[:8]
    (critical,), warnings = crowd(mark), anomalies(mark)
    assert (critical.rule, critical.severity) == ("crowd", Severity.CRITICAL)
    assert {(alert.rule, alert.severity) for alert in warnings} == {("anomaly", Severity.WARNING)}
    assert len(warnings) == DEVICES

    with BotApi(chats={CHAT}, chat_seconds=0.9) as api, alerting(settings, api):
        produce(settings, *warnings, critical)

        def texts() -> list[str]:
            return [message.text for message in api.sent if mark in message.text]

        def is_told(alert: Alert) -> bool:
            return any(alert.device_id in text for text in texts())

        wait_until(lambda: all(map(is_told, (critical, *warnings))), what="everything is told", timeout=40)
        place = next(place for place, text in enumerate(texts()) if critical.device_id in text)
        assert place <= 1, "nothing but what was on its way already is told before it"
        assert not any(alert.device_id in texts()[place] for alert in warnings), "it has a message of its own"
        assert len(texts()) <= 5, "twenty warnings are not twenty messages"
