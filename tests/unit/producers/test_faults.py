from __future__ import annotations

from collections import defaultdict
from itertools import islice, takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetwatch.records import FaultKind
from producers.simulate.faults import ActiveFaults, Fault, plan
from producers.simulate.fleet import make_fleet
from producers.simulate.scenario import FaultSeries, Scenario, load_scenario

START = 1_767_225_600_000

KINDS = st.sampled_from(["SPIKE", "DRIFT", "STUCK", "DROPOUT", "NOISE", "SURGE", "OUTAGE"])
FAULT_SERIES = st.builds(
    FaultSeries,
    kind=KINDS,
    first_seconds=st.floats(0, 60),
    every_seconds=st.floats(0.5, 30),
    count=st.one_of(st.none(), st.integers(1, 20)),
)
SCENARIOS = st.builds(
    Scenario,
    name=st.just("drawn"),
    sensors=st.fixed_dictionaries({"temperature": st.integers(0, 4), "power": st.integers(0, 4)}),
    cameras=st.integers(0, 3),
    rate_hz=st.floats(0.1, 20),
    faults=st.lists(FAULT_SERIES, max_size=5).map(tuple),
)


def planned(scenario: Scenario, seed: int, seconds: float) -> list[Fault]:
    fleet = make_fleet(scenario)
    until = START + seconds * 1000
    return list(takewhile(lambda f: f.start_ms < until, plan(scenario, fleet, seed=seed, start_ms=START)))


@given(scenario=SCENARIOS, seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_a_plan_is_sorted_repeatable_and_never_strikes_a_device_that_has_a_fault(scenario: Scenario, seed: int) -> None:
    faults = list(islice(plan(scenario, make_fleet(scenario), seed=seed, start_ms=START), 60))
    again = list(islice(plan(scenario, make_fleet(scenario), seed=seed, start_ms=START), 60))
    assert faults == again
    assert [f.start_ms for f in faults] == sorted(f.start_ms for f in faults)
    assert len({f.fault_id for f in faults}) == len(faults)
    ends: dict[str, int] = defaultdict(int)
    for fault in faults:
        assert fault.start_ms >= ends[fault.device_id]
        assert fault.end_ms > fault.start_ms
        ends[fault.device_id] = fault.end_ms


@given(scenario=SCENARIOS, cuts=st.lists(st.integers(1, 20_000), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_active_faults_are_those_that_touch_the_interval(scenario: Scenario, cuts: list[int]) -> None:
    faults = planned(scenario, 1, sum(cuts) / 1000)
    active = ActiveFaults(plan(scenario, make_fleet(scenario), seed=1, start_ms=START))
    begin = START
    for cut in cuts:
        end = begin + cut
        assert list(active.between(begin, end)) == [f for f in faults if f.start_ms < end and f.end_ms > begin]
        begin = end


def test_another_seed_strikes_other_devices() -> None:
    demo = load_scenario("demo")
    assert [f.device_id for f in planned(demo, 1, 120)] != [f.device_id for f in planned(demo, 2, 120)]


@pytest.mark.parametrize("seed", range(10))
def test_the_demo_has_every_kind_between_25_and_55_seconds_and_nothing_before(seed: int) -> None:
    faults = planned(load_scenario("demo"), seed, 55)
    assert len(faults) >= 8
    assert {f.kind for f in faults} == set(FaultKind) - {FaultKind.LABELLED}
    assert min(f.start_ms for f in faults) >= START + 25_000
    (dropout,) = (f for f in faults if f.kind is FaultKind.DROPOUT)
    assert dropout.end_ms - dropout.start_ms > 25_000


def test_the_demo_goes_on_striking_in_long_runs() -> None:
    last_hour = [f for f in planned(load_scenario("demo"), 3, 3 * 3600) if f.start_ms > START + 2 * 3_600_000]
    assert {f.kind for f in last_hour} == set(FaultKind) - {FaultKind.LABELLED}


@pytest.mark.parametrize("name", ["demo", "factory"])
def test_a_drop_out_is_longer_than_25_seconds_and_a_spike_has_1_to_3_readings(name: str) -> None:
    scenario = load_scenario(name)
    faults = planned(scenario, 5, 2 * 3600)
    for fault in faults:
        seconds = (fault.end_ms - fault.start_ms) / 1000
        if fault.kind is FaultKind.DROPOUT:
            assert seconds > 25
        if fault.kind is FaultKind.SPIKE:
            assert round(seconds * scenario.rate_hz, 3) in (1, 2, 3)
            assert 8 <= fault.magnitude <= 15


def test_a_series_can_be_bound_to_one_device_or_type() -> None:
    scenario = load_scenario("demo").model_copy(
        update={
            "faults": (
                FaultSeries(kind="STUCK", first_seconds=5, every_seconds=60, device_id="temp-north-03"),
                FaultSeries(kind="NOISE", first_seconds=5, every_seconds=10, sensor_type="power"),
            )
        }
    )
    faults = planned(scenario, 1, 600)
    assert {f.device_id for f in faults if f.kind is FaultKind.STUCK} == {"temp-north-03"}
    assert {f.device_id.split("-")[0] for f in faults if f.kind is FaultKind.NOISE} == {"power"}
    assert sum(f.kind is FaultKind.STUCK for f in faults) == 10


def test_a_named_device_is_left_to_the_series_that_names_it() -> None:
    series = (
        FaultSeries(kind="NOISE", first_seconds=1, every_seconds=1),
        FaultSeries(kind="STUCK", first_seconds=50, device_id="power-north-01"),
    )
    faults = planned(Scenario(name="x", sensors={"power": 2}, faults=series), 1, 200)
    assert [f.kind for f in faults if f.device_id == "power-north-01"] == [FaultKind.STUCK]
    assert len(faults) > 5


def test_an_outage_strikes_every_sound_device_of_one_site_at_once() -> None:
    series = (
        FaultSeries(kind="DROPOUT", first_seconds=1, device_id="power-north-01", duration_seconds=90),
        FaultSeries(kind="STUCK", first_seconds=5, count=1),
        FaultSeries(kind="OUTAGE", first_seconds=10, every_seconds=400, count=4),
    )
    scenario = Scenario(name="x", sensors={"power": 8, "humidity": 4}, cameras=4, faults=series)
    fleet = make_fleet(scenario)
    faults = list(plan(scenario, fleet, seed=2, start_ms=START))
    (stuck,) = (f.device_id for f in faults if f.kind is FaultKind.STUCK)
    site_of = {s.device_id: s.site for s in fleet.sensors} | {c.camera_id: c.site for c in fleet.cameras}
    outages = defaultdict(set)
    for fault in faults:
        if fault.kind is FaultKind.OUTAGE:
            outages[fault.start_ms].add(fault.device_id)
            assert fault.end_ms - fault.start_ms == 240_000
    assert sorted(outages) == [START + at for at in (10_000, 410_000, 810_000, 1_210_000)]
    for at, struck in outages.items():
        (site,) = {site_of[device] for device in struck}
        left_alone = {"power-north-01"} | ({stuck} if at == START + 10_000 else set())
        assert struck == {device for device, its in site_of.items() if its == site} - left_alone


def test_an_outage_of_one_sensor_type_leaves_the_other_devices_of_the_site() -> None:
    series = FaultSeries(kind="OUTAGE", first_seconds=10, sensor_type="power")
    scenario = Scenario(name="x", sensors={"power": 8, "humidity": 8}, cameras=4, faults=(series,))
    struck = [f.device_id for f in plan(scenario, make_fleet(scenario), seed=2, start_ms=START)]
    assert len(struck) == 2
    assert {name.rsplit("-", 1)[0] for name in struck} in [{f"power-{site}"} for site in scenario.sites]


def test_a_count_ends_a_series() -> None:
    series = FaultSeries(kind="NOISE", first_seconds=1, every_seconds=1, count=4)
    scenario = Scenario(name="x", sensors={"power": 30}, faults=(series,))
    assert len(list(plan(scenario, make_fleet(scenario), seed=1, start_ms=START))) == 4
