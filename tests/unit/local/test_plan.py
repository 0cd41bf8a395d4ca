from __future__ import annotations

import pytest

from fleetwatch import topics
from fleetwatch.local.plan import AfterExit, Role, after_exit, all_specs, restart_delay, stop_stages


def names(*, producers: bool = True) -> list[str]:
    return [spec.name for spec in all_specs(seed=1, scenario="demo", producers=producers)]


def test_what_the_first_scored_reading_needs_starts_first_and_the_dashboard_last() -> None:
    assert names()[:3] == ["worker", "simulate", "replay-dataset"]
    assert names()[-1] == "dashboard"


def test_without_producers_all_else_is_there() -> None:
    assert set(names()) - set(names(producers=False)) == {"simulate", "replay-dataset"}


def test_devices_of_ones_own_can_send_with_and_without_simulated_ones() -> None:
    assert "gateway" in names()
    assert "gateway" in names(producers=False)


def test_every_group_that_reads_has_its_process() -> None:
    groups = {spec.group for spec in all_specs(seed=1, scenario="demo", producers=True)} - {None}
    assert groups == set(topics.READ_BY)


def test_seed_and_scenario_reach_the_simulator_only() -> None:
    specs = {spec.name: spec.arguments for spec in all_specs(seed=77, scenario="x.yaml", producers=True)}
    assert specs["simulate"] == ("simulate", "--scenario", "x.yaml", "--seed", "77", "--json")
    assert all("77" not in arguments for name, arguments in specs.items() if name != "simulate")


def test_upstream_stops_before_downstream() -> None:
    assert stop_stages(all_specs(seed=1, scenario="demo", producers=True)) == [
        ["simulate", "replay-dataset", "gateway"],
        ["worker"],
        ["sink-timescale", "sink-redis", "alert", "dashboard"],
    ]


def test_restarts_wait_twice_as_long_each_time_up_to_a_limit() -> None:
    assert [restart_delay(n) for n in (1, 2, 3, 4, 7, 8, 1000)] == [0.5, 1.0, 2.0, 4.0, 30.0, 30.0, 30.0]


@pytest.mark.parametrize(
    ("role", "exit_code", "expected"),
    [
        (Role.STREAMS, 2, AfterExit.STOP_ALL),  # starting again would not help
        (Role.PRODUCER, 2, AfterExit.STOP_ALL),
        (Role.PRODUCER, 0, AfterExit.FINISHED),  # a data set has an end
        (Role.PRODUCER, 1, AfterExit.RESTART),
        (Role.GATEWAY, 0, AfterExit.RESTART),
        (Role.SINK, 0, AfterExit.RESTART),  # what should run on has no good end
        (Role.SINK, -9, AfterExit.RESTART),
        (Role.DASHBOARD, 1, AfterExit.RESTART),
    ],
)
def test_what_follows_an_end_that_nobody_asked_for(role: Role, exit_code: int, expected: AfterExit) -> None:
    assert after_exit(role, exit_code) is expected
