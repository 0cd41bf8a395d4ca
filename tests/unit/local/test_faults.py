from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fleetwatch.local.faults import count_alerted, injected_before, tolerance_after
from fleetwatch.local.tally import Fault, Firing

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def fault(start: float, end: float, device: str = "pump-1") -> Fault:
    return Fault(device_id=device, started_at=at(start), ended_at=at(end))


def fired(*seconds: float, device: str = "pump-1") -> list[Firing]:
    return [Firing(device_id=device, started_at=at(second)) for second in seconds]


@pytest.mark.parametrize(
    ("alert_at", "expected"),
    [
        #     98.9  99    100 ......... 110 ........... 125   125.1
        #      no   yes   start         end             yes    no
        (98.9, 0),
        (99.0, 1),
        (105.0, 1),
        (125.0, 1),
        (125.1, 0),
    ],
)
def test_an_alert_tells_of_a_fault_from_a_second_before_its_start_to_some_time_after_its_end(
    alert_at: float, expected: int
) -> None:
    assert count_alerted([fault(100, 110)], fired(alert_at), late=timedelta(seconds=15)) == expected


def test_another_devices_alert_does_not_count() -> None:
    assert count_alerted([fault(0, 10)], fired(5, device="pump-2"), late=timedelta(seconds=15)) == 0


def test_several_alerts_of_one_fault_count_once_and_order_does_not_matter() -> None:
    assert count_alerted([fault(0, 10)], fired(9, 2, 500, 5), late=timedelta(seconds=15)) == 1


def test_one_alert_may_tell_of_two_faults_that_overlap() -> None:
    assert count_alerted([fault(0, 10), fault(4, 6), fault(90, 95)], fired(5), late=timedelta(seconds=15)) == 2


def test_a_fault_that_was_announced_but_not_reached_was_not_injected() -> None:
    faults = [fault(0, 10), fault(59, 70), fault(60, 80)]
    assert injected_before(faults, at(60)) == faults[:2]


def test_tolerance_is_a_windows_way_to_its_final_count_and_ten_seconds_at_least() -> None:
    assert tolerance_after(window_seconds=10, grace_seconds=5) == timedelta(seconds=15)
    assert tolerance_after(window_seconds=2, grace_seconds=1) == timedelta(seconds=10)
