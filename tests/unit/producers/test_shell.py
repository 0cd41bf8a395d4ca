from __future__ import annotations

import json

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fleetwatch.cli import simulate
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.records import GroundTruth, SensorReading
from producers.batches import Batch
from producers.shell import Cursor
from producers.simulate.scenario import load_scenario
from producers.simulate.simulation import device_of


class ListedSource:
    """Hands out batches that a test made."""

    def __init__(self, batches: list[list[int]], kind: type = SensorReading) -> None:
        self._batches = batches
        self._kind = kind

    @property
    def begin_ms(self) -> int | None:
        return next((due[0] for due in self._batches if due), 0) if self._batches else None

    def take(self) -> Batch:
        due = self._batches.pop(0)
        return Batch(self._kind, due, [{"due": at} for at in due])


class ListDelivery:
    def __init__(self) -> None:
        self.sent: list[int] = []

    def send(self, batch: Batch, first: int, last: int) -> None:
        self.sent += [row["due"] for row in batch.rows[first:last]]


def drive(cursor: Cursor, delivery: ListDelivery, before_ms: int, not_before_ms: int = 0) -> int:
    skipped = 0
    while (due := cursor.due_ms) is not None and due < before_ms:
        skipped += cursor.send_due(delivery, before_ms=before_ms, not_before_ms=not_before_ms)
    return skipped


@given(
    due=st.lists(st.integers(1, 1000), max_size=40).map(sorted),
    size=st.integers(1, 7),
    steps=st.lists(st.integers(1, 1100), max_size=10).map(sorted),
)
def test_wherever_the_ticks_fall_everything_due_is_sent_once_and_in_order(
    due: list[int], size: int, steps: list[int]
) -> None:
    cursor = Cursor(ListedSource([due[i : i + size] for i in range(0, len(due), size)]))
    delivery = ListDelivery()
    for step in steps:
        assert drive(cursor, delivery, step) == 0
        assert delivery.sent == [at for at in due if at < step]


def test_an_empty_batch_is_passed() -> None:
    cursor = Cursor(ListedSource([[], [5], [], [7]]))
    delivery = ListDelivery()
    drive(cursor, delivery, 100)
    assert delivery.sent == [5, 7]
    assert cursor.due_ms is None


def test_what_is_too_old_is_left_out_and_counted_but_not_as_truth() -> None:
    delivery = ListDelivery()
    assert drive(Cursor(ListedSource([[1, 2, 3, 10, 11]])), delivery, 11, not_before_ms=3) == 2
    assert delivery.sent == [3, 10]
    assert drive(Cursor(ListedSource([[1, 2]], GroundTruth)), delivery, 11, not_before_ms=3) == 0


def make_app() -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)
    simulate.add_to(app)
    return app


def dry_run(*arguments: str) -> list[dict]:
    result = CliRunner().invoke(make_app(), ["simulate", "--dry-run", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_dry_run_prints_the_same_events_for_the_same_seed_and_start() -> None:
    arguments = ("--seed", "5", "--start", "2026-01-01T00:00:00Z", "--for", "3")
    rows = dry_run(*arguments)
    assert rows == dry_run(*arguments)
    assert sum(row["topic"] == "fleet.readings" for row in rows) == 48 * 5 * 3
    assert rows != dry_run("--seed", "6", *arguments[2:])


def test_the_command_line_sets_devices_rate_and_cameras() -> None:
    rows = dry_run("--devices", "7", "--rate", "2", "--cameras", "0", "--for", "5")
    assert len(rows) == 7 * 2 * 5
    assert len({row["device_id"] for row in rows}) == 7


def test_one_device_can_be_named_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICE_ID", "vib-east-02")
    assert {row["device_id"] for row in dry_run("--for", "2")} == {"vib-east-02"}
    monkeypatch.setenv("DEVICE_ID", "")
    assert len({row.get("device_id") for row in dry_run("--for", "2")}) > 40


def test_a_number_is_a_device_too_and_a_few_numbers_have_some_of_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICE_ID", "5")
    assert {row.get("device_id") for row in dry_run("--for", "2")} == {"temp-south-01"}
    scenario = load_scenario("demo").changed(devices=44, cameras=8)
    named = [device_of(scenario, str(number)) for number in range(52)]
    assert [name.split("-")[0] for name in named[:6]] == ["temp", "hum", "vib", "power", "cam", "temp"]
    assert len(set(named)) == 52, "every number is another device"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--scenario", "nothing"], "no scenario 'nothing'"),
        (["--device-id", "nothing"], "no device 'nothing'"),
        (["--device-id", "56"], "no device '56'.* number 0 to 55"),
        (["--rate", "0"], "rate_hz"),
        (["--dry-run", "--start", "noon"], "not a time"),
        (["--start", "2026-01-01"], "--start is for --dry-run"),
    ],
)
def test_wrong_options_are_environment_problems(arguments: list[str], expected: str) -> None:
    with pytest.raises(EnvironmentProblemError, match=expected):
        CliRunner().invoke(make_app(), ["simulate", *arguments], catch_exceptions=False)
