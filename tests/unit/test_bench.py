"""The comparison's own arithmetic, input and judgement: what stands between a broker and the figures."""

from __future__ import annotations

import json
from collections import Counter
from io import BytesIO
from typing import TYPE_CHECKING

import fastavro
import numpy as np
import pytest
from typer.testing import CliRunner

import fleetwatch
from bench import check, environments, feed, figures, lane, latency, lineup, measure, memory, peers, report, rounds
from bench.figures import Rate, Sample
from bench.outputs import Reader
from fleetwatch import avro, topics
from fleetwatch.cli.main import build_app
from fleetwatch.errors import EnvironmentProblemError

if TYPE_CHECKING:
    from pathlib import Path

START = 1_750_000_000_000


# --- arithmetic ---


def test_medians_are_of_the_rounds_that_have_a_contestant() -> None:
    found = [{"ours": 300.0, "faust": 3.0}, {"ours": 100.0}, {"ours": 200.0, "faust": 5.0}]
    assert figures.medians(found) == {"ours": 200.0, "faust": 4.0}


def test_a_ratio_is_made_within_each_round_before_the_median_is_taken() -> None:
    """A machine that is busy for one round slows all contestants of it: the ratio does not see that."""
    found = [{"ours": 300.0, "faust": 3.0}, {"ours": 30.0, "faust": 0.25}, {"ours": 90.0, "faust": 1.0}]
    assert figures.ratio_of(found, ["faust"]) == 100.0


def test_the_best_peer_may_be_another_one_in_each_round() -> None:
    found = [{"ours": 100.0, "quix": 10.0, "bytewax": 20.0}, {"ours": 100.0, "quix": 50.0, "bytewax": 20.0}]
    assert figures.ratio_of(found, ["quix", "bytewax"]) == pytest.approx(3.5)


def test_there_is_no_ratio_to_the_best_of_some_peers_only() -> None:
    assert figures.ratio_of([{"ours": 1.0, "quix": 1.0, "bytewax": 1.0}], figures.FRAMEWORK_PEERS) is None
    assert figures.ratio_of([{"ours": 1.0}], ["faust"]) is None
    assert figures.ratio_of([{"faust": 1.0}], ["faust"]) is None


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 2), (0.51, 3), (0.99, 4), (1.0, 4)])
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: int) -> None:
    assert figures.percentile([3, 1, 4, 2], share) == expected


def test_a_rate_leaves_the_warm_up_out() -> None:
    samples = [Sample(0, 0.0, 0.0), Sample(100, 5.0, 3.0), Sample(600, 6.0, 3.5), Sample(1100, 7.0, 4.0)]
    assert figures.rate(samples, 100) == Rate(500.0, 1000.0)


def test_what_was_spent_on_an_unfinished_step_does_not_count() -> None:
    samples = [Sample(0, 0.0, 0.0), Sample(10, 1.0, 1.0), Sample(40, 4.0, 2.5), Sample(40, 6.0, 9.0)]
    assert figures.rate(samples, 10) == Rate(10.0, 20.0)


def test_who_delivers_in_bursts_is_measured_from_pause_to_pause() -> None:
    """One CPU-second gives 100 records, all delivered at its end within 0.1 s; the warm-up ends within a burst.

    records   50   100 ... 100 | 150   200 ... 200 | 250   300 ...
    CPU       1.0  1.0 ... 2.0 | 2.0   2.0 ... 3.0 | 3.0   3.0 ...
    """
    samples = [
        Sample(100 * burst + delivered, 1.0 + burst + spent, burst + at)
        for burst in range(5)
        for delivered, spent, at in ((50, 0.0, 0.05), (100, 0.0, 0.1), (100, 0.5, 0.55), (100, 1.0, 1.0))
    ]
    assert figures.rate(samples, 50) == Rate(100.0, 100.0)


@pytest.mark.parametrize(
    "samples",
    [
        [],
        [Sample(0, 0.0, 0.0), Sample(5, 1.0, 1.0)],
        [Sample(10, 1.0, 1.0)],
        [Sample(10, 1.0, 1.0), Sample(20, 1.0, 2.0)],
    ],
)
def test_there_is_no_rate_without_work_between_two_samples(samples: list[Sample]) -> None:
    assert figures.rate(samples, 10) is None


def test_a_device_costs_what_the_large_fleet_takes_more() -> None:
    found = memory.summary([{1_000: (200_000.0, 100 << 20), 100_000: (160_000.0, (100 << 20) + 99_000 * 2_000)}])
    assert found["bytes_per_device"] == 2_000
    assert found["cost_ratio"] == 1.25
    assert found["rss_mb"]["1000"] == 100


def test_latency_is_taken_at_shares_of_ones_own_highest_rate() -> None:
    assert latency.rates(50_000.0) == {"1000/s": 1000.0, "10%": 5_000.0, "50%": 25_000.0, "90%": 45_000.0}
    assert latency.rates(None) == {"1000/s": 1000.0}


# --- the form of the results ---


def test_the_json_has_what_is_asked_of_it() -> None:
    by_cpu = dict.fromkeys(("faust", "quix", "bytewax", "pathway", "hand_river"), 10.0)
    by_cpu |= {"ours": 1_000.0, "ours_both_models": 500.0, "hand_tuned": 800.0, "c_floor": 4_000.0}
    found = json.loads(json.dumps(report.of_rounds([by_cpu], [by_cpu])))
    assert (found["all_per_cpu_second"], found["both_models_per_cpu_second"], found["c_floor"]) == (1_000, 500, 4_000)
    assert found["contestants"]["faust"] == 10
    assert found["ratios"] == {"faust": 100.0, "best_peer": 100.0, "hand_loop": 1.25, "c_floor": 0.25}


def test_the_table_names_every_contestant_and_what_is_wrong() -> None:
    found = report.of_rounds([{"ours": 100.0, "faust": 2.0}], [{"ours": 90.0, "faust": 1.0}])
    at_rate = {"rate": 1000, "keeps_up": False, "p50": 1, "p99": 2.4, "arrival_p50": 3, "arrival_p99": 4}
    found |= {
        "stages": report.of_stages({"decode": Rate(2e6, 1e6)}),
        "latency_ms": {"ours": {"1000/s": at_rate}},
        "memory": memory.summary([{1_000: (2.0, 1), 100_000: (1.0, 1)}]),
        "wrong": ["faust: 1 dead letters"],
    }
    text = report.table(found)
    for part in (
        "50.00 x",
        "best_peer -",
        "0.500",
        "does not keep up",
        "2.00 x",
        "WRONG OUTPUT  faust: 1 dead letters",
    ):
        assert part in text


def test_a_run_with_one_part_still_has_a_table() -> None:
    assert "events" not in report.table({"wrong": []})


# --- who takes part ---


def test_every_peer_that_the_best_is_taken_of_takes_part(tmp_path: Path) -> None:
    everyone = lineup.contestants(tmp_path)
    assert set(everyone) >= {*figures.FRAMEWORK_PEERS, "faust", figures.OURS, figures.BOTH, figures.HAND_LOOP}
    assert set(environments.PEERS) | {figures.FLOOR} == {one.name for one in everyone.values() if not one.is_ours}


def test_each_peer_has_pinned_versions_and_a_program() -> None:
    for name in environments.PEERS:
        lines = (environments.HERE / "contestants" / f"{name}.txt").read_text().split()
        assert lines
        assert all("==" in line for line in lines), name


def test_a_contestant_that_cannot_be_installed_fails_the_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environments, "ENVS", tmp_path)
    monkeypatch.setattr(environments, "_runs", lambda *command: "pip" not in command)
    assert peers.main(["run", "--json", str(tmp_path / "out.json")]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("cannot be installed: ")
    assert all(name in said for name in environments.PEERS)
    assert not (tmp_path / "out.json").exists()
    assert peers.main(["setup"]) == 1


def test_an_environment_of_other_versions_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "ENVS", tmp_path)
    made: list[str] = []

    def run(*command: str) -> bool:
        made.append(command[-1])
        (tmp_path / "quix").mkdir(exist_ok=True)
        return True

    monkeypatch.setattr(environments, "_runs", run)
    assert environments.setup(("quix",)) == []
    assert len(made) == 2
    assert environments.setup(("quix",)) == []
    assert len(made) == 2
    (tmp_path / "quix" / ".done").write_text("of other versions")
    assert environments.setup(("quix",)) == []
    assert len(made) == 4


def test_an_unknown_contestant_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert peers.main(["run", "--only", "ours,nobody"]) == 1
    assert "no such contestant: nobody" in capsys.readouterr().err


def test_wrong_outputs_fail_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = rounds.Rounds([{"ours": 1.0}], [{"ours": 1.0}], {"ours": {"check": {"wrong": ["2 dead letters"]}}})
    monkeypatch.setattr(peers, "run_rounds", lambda *_, **__: found)
    target = tmp_path / "out.json"
    assert peers.main(["run", "--only", "ours", "--parts", "rounds", "--json", str(target)]) == 1
    assert json.loads(target.read_text())["wrong"] == ["ours: 2 dead letters"]
    found.facts["ours"]["check"]["wrong"] = []
    assert peers.main(["run", "--only", "ours", "--parts", "rounds", "--json", str(target)]) == 0


def test_the_command_says_that_it_needs_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleetwatch, "__file__", str(tmp_path / "fleetwatch" / "__init__.py"))
    done = CliRunner().invoke(build_app(), ["bench"])
    assert isinstance(done.exception, EnvironmentProblemError)
    assert "checkout" in str(done.exception)


# --- the input ---


def test_readings_are_what_fastavro_reads() -> None:
    fleet = feed.Fleet(3, 15.0, START)
    schema = fastavro.parse_schema(avro.load_schema("sensor_reading.v1"))
    read = [fastavro.schemaless_reader(BytesIO(value[5:]), schema, None) for _, value in fleet.readings(0, 7)]
    assert [row["device_id"] for row in read[:4]] == [
        "device-000000",
        "device-000001",
        "device-000002",
        "device-000000",
    ]
    assert [row["seq"] for row in read] == [0, 0, 0, 1, 1, 1, 2]
    assert [(row["sensor_type"], row["unit"]) for row in read[:3]] == list(feed.KINDS[:3])
    assert read[0]["quality"] == "GOOD"
    assert [key for key, _ in fleet.readings(0, 2)] == [b"device-000000", b"device-000001"]


def test_the_truth_counts_what_the_readings_say() -> None:
    fleet = feed.Fleet(3, 0.5, START)
    schema = fastavro.parse_schema(avro.load_schema("sensor_reading.v1"))
    counted: Counter[tuple[str, int]] = Counter()
    for _, value in fleet.readings(0, 40):
        row = fastavro.schemaless_reader(BytesIO(value[5:]), schema, None)
        at = round(row["event_time"].timestamp() * 1000)
        counted[row["device_id"], at // feed.WINDOW_MS * feed.WINDOW_MS] += 1
    assert fleet.truth(40) == counted


# --- the judgement ---


def scored(fleet: feed.Fleet, numbers: list[int]) -> check.Scored:
    rows = np.array(numbers, np.int64)
    return check.Scored(rows % fleet.devices, rows // fleet.devices, fleet.times(0, 100)[rows], np.zeros(len(rows)))


def test_each_reading_scored_once_is_right_in_any_order() -> None:
    fleet = feed.Fleet(3, 15.0, START)
    assert check.wrong_readings(fleet, 4, scored(fleet, [3, 1, 0, 2])) == []


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([0, 1, 3], "1 of 4 readings were not scored"),
        ([0, 1, 2, 3, 3], "1 scored records are there twice"),
        ([0, 1, 2, 3, 9], "1 scored records are of readings that were not sent"),
    ],
)
def test_missing_repeated_and_invented_records_are_found(numbers: list[int], expected: str) -> None:
    fleet = feed.Fleet(3, 15.0, START)
    assert check.wrong_readings(fleet, 4, scored(fleet, numbers)) == [expected]


def test_a_record_with_another_event_time_is_found() -> None:
    fleet = feed.Fleet(3, 15.0, START)
    moved = scored(fleet, [0, 1])._replace(times=np.array([START, START + 1]))
    assert check.wrong_readings(fleet, 2, moved) == ["scored records have another event time than their readings"]


def test_counts_that_differ_or_lack_are_found() -> None:
    truth = {("a", 0): 2, ("b", 0): 3, ("a", 10_000): 1}
    assert check.wrong_counts(truth, dict(truth), are_all_needed=True) == []
    assert check.wrong_counts(truth, {("a", 0): 2}, are_all_needed=False) == []
    (differs,) = check.wrong_counts(truth, truth | {("b", 0): 4}, are_all_needed=True)
    assert "1 of 3 window counts differ" in differs
    assert check.wrong_counts(truth, {("a", 0): 2}, are_all_needed=True) == ["only 1 of 3 windows were found"]


def test_our_records_and_the_peers_are_read_alike() -> None:
    """The lane's own output, and the peers' schema, give the same columns."""
    record = lane.scored_block(2, 10).values[0]
    row = Reader()(record)
    ours = check.scored_by_us([record])
    assert (ours.devices[0], ours.seqs[0], ours.times[0]) == (int(row["device_id"][-6:]), row["seq"], row["event_time"])
    schema = fastavro.parse_schema(json.loads((environments.HERE / "contestants" / "scored.avsc").read_text()))
    body = BytesIO(b"\x00" + (9001).to_bytes(4, "big"))
    body.seek(5)
    values = {"device_id": "device-000012", "event_time": START, "seq": 3, "value": 1.0, "count": 7}
    fastavro.schemaless_writer(body, schema, values | {"score": 0.5, "ingest_time": START})
    theirs = check.scored_by_peer([body.getvalue()])
    assert [column.tolist() for column in theirs] == [[12], [3], [START], [7]]


def test_every_stage_of_a_lane_is_measured() -> None:
    """The stages are named by the functions that the lane calls: one that moved would not be measured any more."""
    found = lane.measure(8, 2_000, 500, rounds=1)
    assert set(found) == {*lane.STAGES, "fold", "fold, both models"}
    assert all(rate.per_cpu_second > 0 for rate in found.values())


def test_our_contestant_is_the_worker_that_users_start() -> None:
    worker = lineup.ours()
    assert worker.command[1:] == ("worker",)
    assert set(worker.environment) == {"FLEETWATCH_TRAINING_FIRST"}
    assert (worker.output, worker.counts) == (topics.SCORED, topics.COUNTS)
    assert measure.Contestant("x", ("x",), 1, 1).output == "bench.x"
