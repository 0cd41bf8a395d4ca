from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from fleetwatch.errors import EnvironmentProblemError
from producers.simulate.fleet import make_fleet
from producers.simulate.scenario import Scenario, load_scenario, shipped_names

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_scenario_has_40_sensors_of_4_types_over_4_sites_and_8_cameras(name: str) -> None:
    fleet = make_fleet(load_scenario(name))
    assert len(fleet.sensors) >= 40
    assert len({sensor.sensor_type for sensor in fleet.sensors}) == 4
    assert len({sensor.site for sensor in fleet.sensors}) == 4
    assert len(fleet.cameras) == 8


def test_device_ids_are_unique_short_and_printable() -> None:
    fleet = make_fleet(load_scenario("demo").changed(devices=2000, cameras=120))
    ids = [s.device_id for s in fleet.sensors] + [c.camera_id for c in fleet.cameras]
    assert len(set(ids)) == len(ids) == 2120
    assert all(len(name) <= 24 and name.isascii() and name.isprintable() and " " not in name for name in ids)
    assert {"temp-north-03", "cam-01", "cam-08"} <= set(ids)


def test_devices_are_spread_over_the_types_and_the_rest_of_the_scenario_stays() -> None:
    demo = load_scenario("demo")
    changed = demo.changed(devices=10, rate_hz=2)
    counts = Counter(sensor.sensor_type for sensor in make_fleet(changed).sensors)
    assert counts == {"temperature": 3, "humidity": 3, "vibration": 2, "power": 2}
    assert (changed.rate_hz, changed.cameras, changed.faults) == (2, demo.cameras, demo.faults)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: x\nsensors: {power: 1}\ncolour: red\n", "colour: Extra inputs are not permitted"),
        ("name: x\nsensors: {power: 1}\nrate_hz: 0\n", "rate_hz: Input should be greater than 0"),
        ("name: x\nsensors: {wind: 1}\n", "Input should be 'temperature'"),
        ("name: x\nsensors: {power: 1}\nsites: [a, a]\n", "a site is named twice"),
        ("name: x\nsensors: {power: 1}\nsites: ['Über all']\n", "sites.0"),
        ("name: [x\nsensors: 1\n", "is no YAML"),
        ("- a list\n", "Input should be a valid dictionary"),
        ("", "Input should be a valid dictionary"),
        (
            "name: x\nsensors: {}\nfaults: [{kind: FIRE, first_seconds: 1}]\n",
            "faults.0.kind: Input should be 'SPIKE'",
        ),
        (
            "name: x\nsensors: {}\nfaults: [{kind: STUCK, first_seconds: 1, magnitude: [1, 2]}]\n",
            "no magnitude",
        ),
        (
            "name: x\nsensors: {}\nfaults: [{kind: SPIKE, first_seconds: 1, magnitude: [9, 8]}]\n",
            "[least, most]",
        ),
        (
            "name: x\nsensors: {}\nfaults: [{kind: SPIKE, first_seconds: 1, duration_seconds: 3}]\n",
            "1 to 3 readings",
        ),
        (
            "name: x\nsensors: {}\nfaults: [{kind: SURGE, first_seconds: 1, sensor_type: power}]\n",
            "for cameras",
        ),
        (
            "name: x\nsensors: {}\nfaults: [{kind: OUTAGE, first_seconds: 1, device_id: a}]\n",
            "an OUTAGE strikes a site",
        ),
        (
            "name: x\nsensors: {}\nfaults: [{kind: STUCK, first_seconds: 1, count: 2}]\n",
            "needs every_seconds",
        ),
    ],
)
def test_a_wrong_scenario_is_one_line_that_names_file_and_place(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(EnvironmentProblemError) as caught:
        load_scenario(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert "mine.yaml" in message
    assert expected in message


def test_an_unknown_scenario_names_those_that_there_are() -> None:
    with pytest.raises(EnvironmentProblemError, match=r"'nothing'.*demo, factory"):
        load_scenario("nothing")


def test_a_number_out_of_range_on_the_command_line_is_an_environment_problem() -> None:
    with pytest.raises(EnvironmentProblemError, match="rate_hz"):
        load_scenario("demo").changed(rate_hz=-1)


def test_a_scenario_without_devices_is_allowed() -> None:
    fleet = make_fleet(Scenario(name="empty", sensors={}))
    assert fleet.sensors == ()
    assert fleet.cameras == ()
