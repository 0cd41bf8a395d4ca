from __future__ import annotations

import asyncio
import io
import threading
import time
from random import Random

import pytest

from alerting.console import ConsoleNotifier
from alerting.delivery import Delivery
from alerting.lane import Lane, SystemClock
from alerting.pacing import Pacer
from alerting.ports import Delivered, Notice
from tests.fakes.alerts import ScriptedNotifier, make_alert, waiting
from tests.services import wait_until


class HangingNotifier(ScriptedNotifier):
    """Never answers, as an API in trouble."""

    async def send(self, notice: Notice):  # noqa: ARG002  # the port
        await asyncio.sleep(3600)
        return Delivered()


def delivery_of(*notifiers, close=None):
    def lanes(report):
        return [
            Lane(one, report, pacer=Pacer(), shared=Pacer(), clock=SystemClock(), random=Random(1)) for one in notifiers
        ]

    return Delivery(lanes, close)


def collect(delivery, count):
    found = []
    wait_until(lambda: found.extend(delivery.reports()) or len(found) >= count, what=f"{count} reports")
    return found


def test_every_lane_tells_of_every_change():
    one, two = ScriptedNotifier(lane="one"), ScriptedNotifier(lane="two")
    with delivery_of(one, two) as delivery:
        for offset in range(3):
            delivery.submit(waiting(offset))
        reports = collect(delivery, 6)
    assert one.sent == two.sent == [("0",), ("1",), ("2",)]
    assert {report.lane for report in reports} == {"one", "two"}


def test_a_hanging_channel_holds_up_nobody_else():
    with delivery_of(HangingNotifier(lane="stuck"), ScriptedNotifier(lane="well")) as delivery:
        for offset in range(5):
            delivery.submit(waiting(offset))
        assert {report.lane for report in collect(delivery, 5)} == {"well"}
        assert delivery.waiting() == {"stuck": 5, "well": 0}


def test_stop_lets_waiting_changes_out_and_closes():
    closed = threading.Event()

    async def close():
        closed.set()

    notifier = ScriptedNotifier()
    with delivery_of(notifier, close=close) as delivery:
        for offset in range(20):
            delivery.submit(waiting(offset))
        delivery.stop(5)
        assert len(delivery.reports()) == 20
    assert closed.is_set()


def test_stop_does_not_wait_longer_than_told():
    with delivery_of(HangingNotifier()) as delivery:
        delivery.submit(waiting(0))
        started = time.monotonic()
        delivery.stop(0.2)
        assert time.monotonic() - started < 3
        assert delivery.reports() == []


def test_what_was_dropped_is_not_sent():
    with delivery_of(HangingNotifier(lane="stuck")) as delivery:
        for offset in range(3):
            delivery.submit(waiting(offset, partition=offset))
        wait_until(lambda: delivery.waiting() == {"stuck": 3}, what="three changes in the lane")
        delivery.drop({1, 2})
        assert delivery.waiting() == {"stuck": 1}


def test_the_console_writes_a_line_a_change():
    stream = io.StringIO()
    with delivery_of(ConsoleNotifier(stream)) as delivery:
        delivery.submit(waiting(0, make_alert("a", summary="one\ntwo")))
        delivery.submit(waiting(1, make_alert("a", after=3)))
        collect(delivery, 2)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("FIRING WARNING temp-north-03: one two (")
    assert lines[1].endswith("resolved after 3 s [alert a]")


def test_the_console_survives_an_output_that_knows_few_characters():
    raw = io.BytesIO()
    with delivery_of(ConsoleNotifier(io.TextIOWrapper(raw, encoding="ascii"))) as delivery:
        delivery.submit(waiting(0, make_alert("a")))
        collect(delivery, 1)
    assert b"80 \\xb0C" in raw.getvalue()


@pytest.mark.parametrize("kind", [BrokenPipeError, ValueError])
def test_a_closed_output_is_a_refusal(kind):
    class Closed(io.StringIO):
        def write(self, text):  # noqa: ARG002  # the interface
            raise kind

    with delivery_of(ConsoleNotifier(Closed())) as delivery:
        delivery.submit(waiting(0))
        (report,) = collect(delivery, 1)
    assert report.outcome.reason.value == "OUTPUT_CLOSED"
