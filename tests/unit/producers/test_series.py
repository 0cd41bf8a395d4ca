from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.records import GroundTruth, SensorReading
from producers.batches import events_until
from producers.replay_dataset import replay
from producers.series import SHIPPED_SERIES, Series, SeriesEntry, load_series

if TYPE_CHECKING:
    from pathlib import Path

START = 1_767_225_600_000


def make_series(values: list[float], windows: list[tuple[int, int]], *, start_row: int = 0, rate: float = 20) -> Series:
    entry = SeriesEntry(
        device_id="real-x-01",
        file="x.csv",
        sensor_type="x",
        unit="1",
        site="s",
        start_row=start_row,
        rate_hz=rate,
    )
    return Series(entry, tuple(values), tuple(windows))


def events(series: list[Series], seconds: float, *, speed: float = 1.0) -> list:
    return list(events_until(replay(series, start_ms=START, speed=speed), START + round(seconds * 1000)))


def test_the_shipped_series_bring_a_labelled_anomaly_within_a_minute_after_10_seconds_of_normal_rows() -> None:
    all_series = load_series()
    assert len(all_series) >= 4
    for series in all_series:
        starts = [row["started_at"] - START for _, kind, row in events([series], 60) if kind is GroundTruth]
        assert starts, series.entry.device_id
        assert 10_000 <= min(starts) <= 45_000


def test_the_shipped_data_carries_its_licence_and_source() -> None:
    folder = SHIPPED_SERIES.parent
    assert "Numenta" in (folder / "nab" / "LICENSE.txt").read_text()
    readme = (folder / "README.md").read_text()
    assert "ea702d75cc2258d9d7dd35ca8e5e2539d71f3140" in readme
    assert all(path.name in readme for path in folder.rglob("*.csv"))
    listed = {(folder / series.entry.file).resolve() for series in load_series()}
    assert listed == {path.resolve() for path in folder.rglob("*.csv")}


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50),
    start=st.integers(0, 49),
    rate=st.floats(0.5, 200),
    speed=st.floats(0.5, 4),
)
@settings(max_examples=60, deadline=None)
def test_row_i_is_due_at_start_plus_i_over_rate_and_the_series_goes_round(
    values: list[float], start: int, rate: float, speed: float
) -> None:
    start %= len(values)
    sent = events([make_series(values, [], start_row=start, rate=rate)], 3, speed=speed)
    assert abs(len(sent) - 3 * rate * speed) <= 1
    for number, (due, kind, row) in enumerate(sent):
        assert kind is SensorReading
        assert row["event_time"] == due == START + int(number * 1000 / (rate * speed))
        assert row["seq"] == number
        assert row["value"] == values[(start + number) % len(values)]


def test_truth_covers_exactly_the_rows_of_the_window_in_every_turn() -> None:
    values = [0.0] * 10
    values[4:7] = [9.0, 9.0, 9.0]
    happened = events([make_series(values, [(4, 6)], start_row=2, rate=10)], 4)
    truths = [row for _, kind, row in happened if kind is GroundTruth]
    assert [t["started_at"] - START for t in truths] == [200, 1200, 2200, 3200]
    assert len({t["fault_id"] for t in truths}) == 4
    for _, kind, row in happened:
        if kind is SensorReading:
            covered = any(t["started_at"] <= row["event_time"] < t["ended_at"] for t in truths)
            assert covered == (row["value"] == 9.0)


def test_a_window_cut_by_the_start_row_begins_with_the_run_and_one_before_it_comes_in_the_next_turn() -> None:
    inside = events([make_series([0.0] * 10, [(4, 6)], start_row=5, rate=10)], 0.5)
    (truth,) = (row for _, kind, row in inside if kind is GroundTruth)
    assert (truth["started_at"], truth["ended_at"]) == (START, START + 200)
    behind = events([make_series([0.0] * 10, [(4, 6)], start_row=7, rate=10)], 1)
    (truth,) = (row for _, kind, row in behind if kind is GroundTruth)
    assert truth["started_at"] == START + 700


def test_the_magnitude_counts_standard_deviations_of_the_series() -> None:
    series = make_series([0.0, 0.0, 0.0, 4.0], [(3, 3)])
    assert series.magnitude(3, 3) == pytest.approx(3 / 3**0.5, abs=0.01)
    assert make_series([1.0, 1.0], [(0, 1)]).magnitude(0, 1) == 0.0


def write(
    folder: Path, *, csv: str = "timestamp,value\n2020-01-01 00:00:00,1\n", labels: str = "{}", more: str = ""
) -> Path:
    (folder / "a.csv").write_text(csv)
    (folder / "labels.json").write_text(labels)
    path = folder / "series.yaml"
    path.write_text(
        "labels: labels.json\nseries:\n"
        "  - {device_id: d1, file: a.csv, sensor_type: t, unit: '1', site: s" + more + "}\n"
    )
    return path


def test_windows_are_found_by_their_timestamps_both_inclusive(tmp_path: Path) -> None:
    rows = "".join(f"2020-01-01 00:0{i}:00,{i}\n" for i in range(6))
    inside = ["2020-01-01 00:02:00.000000", "2020-01-01 00:04:00.000000"]
    labels = {"a.csv": [inside, ["2021-01-01", "2021-01-02"]]}
    (series,) = load_series(write(tmp_path, csv="timestamp,value\n" + rows, labels=json.dumps(labels)))
    assert series.windows == ((2, 4),)
    assert series.values == (0, 1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"csv": "time,value\n"}, "the first line must be: timestamp,value"),
        ({"csv": "timestamp,value\n"}, "has no rows"),
        ({"csv": "timestamp,value\n2020-01-01 00:00:00,one\n"}, "a.csv, line 2: could not convert"),
        ({"csv": "timestamp,value\n2020-01-01 00:00:00,nan\n"}, "a.csv, line 2: nan is not a finite number"),
        ({"csv": "timestamp,value\nyesterday,1\n"}, "a.csv, line 2: Invalid isoformat"),
        ({"csv": "timestamp,value\n2020-01-01 00:00:00\n"}, "a.csv, line 2"),
        ({"labels": "[1]"}, "labels.json: no list of windows"),
        ({"labels": "{"}, "labels.json: no list of windows"),
        ({"more": ", start_row: 5"}, "the file has only 1 rows"),
        ({"more": ", speed: 5"}, "series.0.speed: Extra inputs"),
    ],
)
def test_a_wrong_series_is_one_line_that_says_where(change: dict, expected: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblemError) as caught:
        load_series(write(tmp_path, **change))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblemError, match=r"nowhere\.yaml: No such file"):
        load_series(tmp_path / "nowhere.yaml")
    path = write(tmp_path)
    (tmp_path / "a.csv").unlink()
    with pytest.raises(EnvironmentProblemError, match=r"a\.csv: No such file"):
        load_series(path)
