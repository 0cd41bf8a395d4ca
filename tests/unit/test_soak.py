"""What a soak run notes down, and how it is judged: made-up runs that are good but for one thing."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench.soak import plots, report, stack
from bench.soak.canary import ANOMALY_VALUE, Expected, Watch, value_of
from bench.soak.journal import ALERT_WAYS, WAYS, Canary, Journal, Kill, Process, Run, Sample, Session, Trouble, read
from bench.soak.verdict import Limits, judge, lag_seconds, memory_slopes, settling_seconds, slope
from fleetwatch import topics

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

START = 1_750_000_000.0
HOURS = 12
EVERY = 60.0
RATE = 400.0
SESSION = Session(at=START, broker="kafka", load="a load", canary_seconds=60, bound_seconds=30, kill_seconds=None)


def sample(number: int, *, worker_mb: float = 600.0, pid: int = 10, lag: float = 50.0, refused: int = 0) -> Sample:
    at = START + number * EVERY
    written = round(number * EVERY * RATE)
    noise = random.Random(number).gauss(0, 3)
    processes = {
        "worker": Process(pid=pid, rss_mb=worker_mb + noise, cpu_seconds=number * 20.0, files=13),
        # caches of a server fill: that is no leak of ours
        "kafka": Process(pid=99, rss_mb=400 + number * 0.1, cpu_seconds=number * 5.0, files=200),
    }
    ends = dict.fromkeys((name for group in topics.READ_BY.values() for name in group), written)
    lags = {group: round(lag) for group in topics.READ_BY}
    disk = {"kafka": 100.0 + number, "postgres": 50.0 + number}
    return Sample(
        at=at,
        processes=processes,
        lags=lags,
        ends=ends | {topics.DEAD_LETTERS: refused},
        disk_mb=disk if number % 10 == 0 else {},
        cpu_busy=0.5,
    )


def canary(seq: int, **changes: float | None) -> Canary:
    is_anomaly = seq % 10 == 9
    ways = WAYS + ALERT_WAYS if is_anomaly else WAYS
    arrived = dict.fromkeys(ways, 0.2) | {name.replace("_", " "): value for name, value in changes.items()}
    return Canary(seq=seq, at=START + seq * 60, is_anomaly=is_anomaly, arrived=arrived)


def good_run(make: Callable[[int], Sample] = sample, hours: float = HOURS) -> Run:
    run = Run(sessions=[SESSION])
    count = round(hours * 3600 / EVERY)
    run.samples = [make(number) for number in range(count + 1)]
    run.canaries = [canary(seq) for seq in range(count)]
    return run


def only(run: Run) -> str:
    (line,) = judge(run, Limits())
    return line


def test_a_run_in_which_nothing_grows_is_good() -> None:
    run = good_run()
    assert judge(run, Limits()) == []
    assert run.seconds == HOURS * 3600


def test_a_leak_of_four_megabytes_an_hour_is_seen_in_half_a_day() -> None:
    line = only(good_run(lambda number: sample(number, worker_mb=600 + 4 * number * EVERY / 3600)))
    assert line.startswith("worker grows by 4.0 MB an hour (")


def test_a_leak_is_seen_through_restarts_as_long_as_one_life_shows_it() -> None:
    def killed_now_and_then(number: int) -> Sample:
        life, age = divmod(number, 288)
        return sample(number, worker_mb=600 + 20 * age * EVERY / 3600, pid=10 + life)

    run = good_run(killed_now_and_then)
    run.kills = [Kill(at=START + 288 * EVERY * life, name="worker", ready_after=9.0) for life in (1, 2)]
    assert only(run).startswith("worker grows by 20.")


@pytest.mark.parametrize(
    ("name", "worker_mb"),
    [
        ("it fills its caches in the first twenty minutes", lambda number: 200 + 400 * min(1, number / 20)),
        ("it grows by half a megabyte an hour", lambda number: 600 + 0.5 * number * EVERY / 3600),
        ("it jumps now and then and comes back", lambda number: 900 if number % 50 == 0 else 600),
    ],
)
def test_what_is_no_leak(name: str, worker_mb: Callable[[int], float]) -> None:
    assert judge(good_run(lambda number: sample(number, worker_mb=worker_mb(number))), Limits()) == [], name


def test_twenty_minutes_show_large_leaks_only() -> None:
    def grows(per_hour: float) -> Run:
        return good_run(lambda number: sample(number, worker_mb=600 + per_hour * number * EVERY / 3600), hours=1 / 3)

    assert judge(grows(50), Limits()) == []
    assert only(grows(300)).startswith("worker grows by")


def test_a_life_of_a_few_minutes_says_nothing_about_memory() -> None:
    run = good_run(lambda number: sample(number, worker_mb=600 + 50 * number), hours=4 / 60)
    run.canaries = [canary(seq) for seq in range(10)]
    assert memory_slopes(run) == {"worker": None, "kafka": None}
    assert judge(run, Limits()) == []


def test_a_group_that_falls_behind_is_seen_even_if_it_is_not_far_behind_yet() -> None:
    found = judge(
        good_run(lambda number: sample(number, lag=50 + RATE * 8 * number * EVERY / (HOURS * 3600))), Limits()
    )
    assert found == [], "eight seconds in twelve hours"
    found = judge(
        good_run(lambda number: sample(number, lag=50 + RATE * 400 * number * EVERY / (HOURS * 3600))), Limits()
    )
    assert len(found) == 2 * len(topics.READ_BY)
    assert any("behind at the end" in line for line in found)
    assert any("grows by" in line for line in found)


def test_a_group_that_was_behind_and_caught_up_is_fine() -> None:
    assert judge(good_run(lambda number: sample(number, lag=200_000 if number == 300 else 50)), Limits()) == []


def test_lag_is_measured_against_what_is_written() -> None:
    run = good_run(hours=1)
    behind = lag_seconds(run, topics.GROUP_ALERTING)
    assert behind[0] == (START, pytest.approx(50 / RATE))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"database": None}, "canary: 1 not in time as database (1 never), within 30 s"),
        ({"cache": 31.0}, "canary: 1 not in time as cache (0 never), within 30 s"),
        ({"alert": None}, "canary: 1 not in time as alert (1 never), within 30 s"),
        ({"alert_in_database": 60.0}, "canary: 1 not in time as alert in database (0 never), within 30 s"),
    ],
)
def test_one_reading_of_the_canary_that_is_missing_or_late_is_enough(
    changes: dict[str, float | None], line: str
) -> None:
    run = good_run()
    run.canaries[9] = canary(9, **changes)
    assert only(run) == line


def test_a_run_without_canary_or_without_its_anomalies_is_not_good() -> None:
    run = good_run()
    run.canaries = []
    assert only(run) == "no reading of the canary was followed"
    run.canaries = [canary(seq) for seq in range(9)]
    assert judge(run, Limits()) == [
        f"canary: nothing was expected as {way}: the run was too short" for way in ALERT_WAYS
    ]


def test_other_things_that_must_not_happen() -> None:
    run = good_run(lambda number: sample(number, refused=3 if number > 30 else 0))
    assert only(run) == "3 events became dead letters"
    run = good_run()
    run.canaries[3] = replace(run.canaries[3], is_wrong=True)
    assert only(run) == "canary: 1 readings arrived with another value"
    run = good_run()
    run.troubles = [Trouble(at=START, text="the disk is full")]
    assert only(run) == "the disk is full"
    run = good_run(lambda number: replace(sample(number), lags={}))
    assert judge(run, Limits()) == [f"the lag of {group} is not known" for group in topics.READ_BY]


def test_a_process_that_dies_by_itself_is_seen_and_one_that_was_killed_must_come_back() -> None:
    def dies(number: int) -> Sample:
        return sample(number, pid=10 if number < 200 else 11)

    assert only(good_run(dies)) == "worker ended by itself and was started again 1 times"
    run = good_run(dies)
    run.kills = [Kill(at=START + 200 * EVERY - 1, name="worker", ready_after=12.0)]
    assert judge(run, Limits()) == []
    run.kills = [Kill(at=START + 200 * EVERY - 1, name="worker", ready_after=None)]
    assert only(run) == "worker was not ready in time after kill -9"


def test_a_resumed_run_leaves_the_pause_out_and_its_new_processes_are_no_restarts() -> None:
    run = good_run(lambda number: sample(number, pid=10 if number < 100 else 20), hours=2)
    run.samples = [
        found if number < 100 else replace(found, at=found.at + 7 * 86_400) for number, found in enumerate(run.samples)
    ]
    run.sessions.append(replace(SESSION, at=START + 7 * 86_400))
    assert run.seconds == 99 * EVERY + 20 * EVERY
    assert judge(run, Limits()) == []


def test_slopes() -> None:
    assert slope([0, 60, 120], [1, 2, 3]) is None
    found = slope([hour * 3600 for hour in range(24)], [5 + 2 * hour for hour in range(24)])
    assert found is not None
    assert found[:3] == pytest.approx((2, 2, 2))
    assert settling_seconds(1200) == 300
    assert settling_seconds(172_800) == 1800


# --- The canary


def test_what_the_canary_reads_is_known_beforehand() -> None:
    assert [value_of(seq, 5) == ANOMALY_VALUE for seq in range(10)] == [False] * 4 + [True] + [False] * 4 + [True]
    assert all(18 < value_of(seq, 1000) < 22 for seq in range(900)), "far below the level of the rule, 60"
    assert value_of(7, 1000) == value_of(7, 1000)


def test_a_reading_is_done_when_it_is_everywhere_and_given_up_after_three_bounds() -> None:
    watch = Watch(bound_seconds=10)
    watch.expect(Expected(1, 1000, 20.0, is_anomaly=False))
    watch.expect(Expected(2, 2000, 90.0, is_anomaly=True))
    watch.arrived("scored", 1000, 1040, value=20.0)
    watch.arrived("scored", 1000, 9999, value=20.0)  # a repeat after a crash
    watch.arrived("database", 1000, 1200, value=20.0)
    watch.arrived("alert", 777, 800)  # nobody's
    assert watch.close_done(3000) == []
    assert watch.earliest_missing("database") == 2000
    assert watch.earliest_missing("cache") == 1000
    watch.arrived("cache", 1000, 990, value=20.0)  # a clock that is a little behind
    (done,) = watch.close_done(3000)
    assert done.as_record().arrived == {"scored": 0.04, "database": 0.2, "cache": 0.0}
    for way in (*WAYS, "alert"):
        watch.arrived(way, 2000, 2500, value=89.0 if way == "database" else None, noticed=way == "scored")
    assert watch.earliest_missing("alert") is None
    assert watch.close_done(2000 + 30_000) == []
    (late,) = watch.close_done(2000 + 30_001)
    record = late.as_record()
    assert record.arrived["alert in database"] is None
    assert record.is_wrong
    assert record.was_noticed
    assert not watch


# --- Keeping and showing


def test_a_journal_is_read_as_it_was_written_even_after_a_kill(tmp_path: Path) -> None:
    records = [
        SESSION,
        sample(1),
        canary(9),
        Kill(at=START, name="worker", ready_after=None),
        Trouble(at=1.0, text="x"),
    ]
    journal = Journal(tmp_path)
    for record in records:
        journal.add(record)
    journal.close()
    assert read(tmp_path) == journal.run
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"kind": "Sample", "at":')  # killed while it wrote
    assert read(tmp_path) == journal.run
    resumed = Journal(tmp_path)
    resumed.add(SESSION)
    resumed.close()
    assert read(tmp_path) == resumed.run
    assert len(resumed.run.sessions) == 2


def test_the_report_says_what_fell_short_and_every_plot_is_there(tmp_path: Path) -> None:
    run = good_run(hours=2)
    run.canaries[19] = canary(19, alert=None)
    run.kills = [Kill(at=START + 60, name="worker", ready_after=11.5)]
    path = tmp_path / "soak.md"
    shortfalls = report.write(run, Limits(), path, notes=["The machine was shared."])
    text = path.read_text()
    assert text.startswith("**It fell short**: 2.0 hours from 15 June 2025")
    assert "- canary: 1 not in time as alert (1 never), within 30 s" in text
    assert "The machine was shared." in text
    assert "| worker | 1 | 1 | 11.5 |" in text
    summary = report.summary(run, shortfalls)
    assert summary["ok"] is False
    assert summary["canary_missed"] == 1
    assert summary["memory_mb_per_hour"]["worker"] == pytest.approx(0, abs=5)
    for name in report.PLOTS:
        assert f"(soak/{name}.svg)" in text
        root = ET.parse(tmp_path / "soak" / f"{name}.svg").getroot()
        assert "NaN" not in ET.tostring(root, encoding="unicode")
        assert root.tag.endswith("svg")


def test_a_long_line_keeps_its_peaks() -> None:
    line = [(float(number), 100.0 if number == 50_001 else 1.0) for number in range(100_000)]
    shown = plots.thinned(line)
    assert len(shown) <= 2 * plots.POINTS
    assert (50_001.0, 100.0) in shown
    assert shown == sorted(shown)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["python", "-m", "fleetwatch.cli.main", "worker"], "worker"),
        (["python", "-m", "fleetwatch.cli.main", "sink", "timescale", "--no-migrate"], "sink-timescale"),
        (["python", "-m", "fleetwatch.cli.main", "simulate", "--seed", "1"], "simulate"),
        (["/wheel/bin/postgres", "-D", "x"], "postgres"),
        (["/usr/bin/java", "-Xmx512m", "kafka.Kafka"], "kafka"),
        (["/wheel/bin/redis-server 127.0.0.1:6379"], "redis"),
        (["/bin/other", "x"], "other"),
        ([], ""),
    ],
)
def test_processes_have_the_names_of_their_commands(command: list[str], name: str) -> None:
    assert stack.name_of(command) == name
