"""The runner's decisions, against a source, a store and a dead-letter topic that record what is asked of them."""
# ruff: noqa: ARG002  # the fakes have the signatures of what they stand for

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry

from fleetwatch import topics
from fleetwatch.errors import EnvironmentProblemError, TransientError
from fleetwatch.records import Reason, Stage
from fleetwatch.service import Status
from sinks.batch import Limits
from sinks.runner import RateMeter, Runner, RunnerOptions
from sinks.store import MUCH, StoreEmptiedError, StoreRefusedError
from tests.unit.sinks.samples import NOW, broken, detection, event, letter, scored

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetwatch.records import DeadLetter
    from sinks.batch import Event, Partition
    from sinks.stretch import Stretch

SCORED_0 = (topics.SCORED, 0)


class _Service:
    def __init__(self) -> None:
        self.status = Status(service="sink-test")
        self.registry = CollectorRegistry()
        self.stopping = threading.Event()

    def ready(self, doing: str) -> None:
        self.status.ready = True
        self.status.doing = doing


class _Source:
    """One partition whose events are handed out batch by batch; the service stops when there are no more."""

    def __init__(self, service: _Service, diary: list[Any], batches: list[list[Event]]) -> None:
        self.service, self.diary, self.batches = service, diary, batches
        self.to_place: list[Partition] = []
        self.assigned: list[Partition] = []
        self.generation = 0
        self.low, self.high = 0, 1000
        self.while_waiting: Callable[[], None] = lambda: None
        self.on_read: Callable[[int], None] = lambda _left: None
        self.away: list[bool] = []

    def is_away(self) -> bool:
        return self.away.pop(0) if self.away else False

    def subscribe(self) -> None:
        self.rebalance()

    def rebalance(self) -> None:
        self.generation += 1
        self.to_place = [SCORED_0]
        self.assigned = [SCORED_0]

    def cluster_id(self) -> str:
        return "cluster"

    def kept(self, partition: Partition) -> tuple[int, int]:
        return self.low, self.high

    def place_again(self) -> None:
        self.to_place = [SCORED_0]

    def place(self, starts: dict[Partition, int] | None) -> None:
        self.to_place = []
        self.diary.append(("place", starts))

    def read(self, count: int, timeout: float) -> list[Event]:
        if not self.batches:
            self.service.stopping.set()
            return []
        batch = self.batches.pop(0)
        self.on_read(len(self.batches))
        return batch

    def pause(self) -> None:
        self.diary.append("pause")

    def resume(self) -> None:
        self.diary.append("resume")

    def stay_member(self, timeout: float) -> None:
        self.while_waiting()

    def commit(self, offsets: dict[Partition, int]) -> bool:
        if offsets:
            self.diary.append(("commit", dict(offsets)))
        return True

    def known_end(self, partition: Partition) -> int | None:
        return 1000

    def close(self) -> None:
        self.diary.append("leave")


class _Store:
    name = "test store"

    def __init__(self, diary: list[Any]) -> None:
        self.diary = diary
        self.errors: list[Exception] = []
        self.open_errors: list[Exception] = []
        self.bad: set[int] = set()
        self.offsets: dict[Partition, int] | None = {}
        self.tidied: list[datetime] = []
        self.tidy_errors: list[Exception] = []
        self.rows_to_go: list[int] = []

    def open(self) -> None:
        if self.open_errors:
            raise self.open_errors.pop(0)

    def stored_offsets(self, partitions: Any, cluster_id: str) -> dict[Partition, int] | None:
        return self.offsets

    def forget_offset(self, partition: Partition) -> None:
        self.diary.append(("forget", partition))

    def write(self, stretch: Stretch, cluster_id: str) -> None:
        if self.errors:
            raise self.errors.pop(0)
        with_record = [stretch.events[position].offset for position in stretch.stored_positions()]
        if self.bad & set(with_record):
            raise StoreRefusedError("22021 no NUL in text")
        self.diary.append(("write", with_record))

    def tidy(self, now: datetime) -> dict[str, int]:
        self.tidied.append(now)
        if self.tidy_errors:
            raise self.tidy_errors.pop(0)
        return {"devices": 2, "rows": self.rows_to_go.pop(0) if self.rows_to_go else 0}

    def close(self) -> None:
        self.diary.append("close")


class _Letters:
    def __init__(self, diary: list[Any]) -> None:
        self.diary = diary
        self.sent: list[DeadLetter] = []

    def send(self, letters: Sequence[DeadLetter]) -> None:
        if letters:
            self.sent += letters
            self.diary.append(("letters", [letter.offset for letter in letters]))


class _World:
    def __init__(self, *batches: list[Event], answers_for_input: bool = True, step_seconds: int = 0) -> None:
        self.now, self.step_seconds = NOW, step_seconds
        self.diary: list[Any] = []
        self.service = _Service()
        self.source = _Source(self.service, self.diary, list(batches))
        self.store = _Store(self.diary)
        self.letters = _Letters(self.diary)
        self.runner = Runner(
            store=self.store,
            source=self.source,  # type: ignore[arg-type]
            dead_letters=self.letters,  # type: ignore[arg-type]
            service=self.service,  # type: ignore[arg-type]
            options=RunnerOptions(
                limits=Limits(rows=3, age_seconds=5),
                first_wait_seconds=0.001,
                longest_wait_seconds=0.002,
                patience_at_start_seconds=0.05,
                answers_for_input=answers_for_input,
                clock=self.clock,
            ),
        )

    def clock(self) -> datetime:
        self.now += timedelta(seconds=self.step_seconds)
        return self.now

    def run(self) -> list[Any]:
        self.runner.run()
        return self.diary

    def counters(self) -> dict[str, int]:
        return {name: n for name, n in self.service.status.counters.items() if not name.startswith("tidied")}

    def metric(self, name: str, **labels: str) -> float | None:
        return self.service.registry.get_sample_value(name, labels)


def _readings(*offsets: int) -> list[Event]:
    return [event(scored(seq=offset), offset) for offset in offsets]


def test_a_batch_is_written_before_it_is_committed():
    world = _World(_readings(0, 1, 2), _readings(3))
    assert world.run() == [
        ("place", {SCORED_0: 0}),
        ("commit", {SCORED_0: 0}),
        ("write", [0, 1, 2]),
        ("commit", {SCORED_0: 3}),
        ("write", [3]),
        ("commit", {SCORED_0: 4}),
        "leave",
        "close",
    ]
    assert world.counters() == {"rows_written": 4, "batches": 2}
    assert world.metric("fleetwatch_sink_rows_written_total", topic=topics.SCORED) == 4


def test_reading_goes_on_where_the_store_says():
    world = _World()
    world.store.offsets = {SCORED_0: 41}
    assert world.run()[0] == ("place", {SCORED_0: 41})


def test_a_store_without_offsets_leaves_the_start_to_kafka():
    world = _World()
    world.store.offsets = None
    assert world.run()[0] == ("place", None)


def test_an_offset_beyond_the_logs_end_is_forgotten():
    world = _World()
    world.store.offsets = {SCORED_0: 1001}
    assert world.run()[:2] == [("forget", SCORED_0), ("place", {SCORED_0: 0})]


def test_what_the_broker_deleted_before_it_was_read_is_counted_and_no_other_gap():
    """At the start, and while it runs: a client whose place is gone goes on at the oldest kept event by itself."""
    world = _World(_readings(100, 101, 104), _readings(105, 250, 251), _readings(252, 260))
    world.store.offsets = {SCORED_0: 90}
    world.source.low = 100
    world.source.on_read = lambda left: setattr(world.source, "low", 100 if left > 1 else 200)
    assert ("place", {SCORED_0: 100}) in world.run()
    assert world.service.status.counters["events_lost"] == (100 - 90) + (200 - 106)


def test_a_broker_that_is_away_is_said_until_it_is_back(monkeypatch: pytest.MonkeyPatch):
    world = _World(_readings(0), _readings(1), _readings(2))
    world.source.away = [True, True, False]
    said: list[str] = []
    world.source.on_read = lambda _left: said.append(world.service.status.problem)
    monkeypatch.setattr(RateMeter, "per_second", lambda _self, _now: 0.0)  # reports after each batch
    world.runner._options = replace(world.runner._options, limits=Limits(rows=1))
    world.run()
    away = "no Kafka broker answers; goes on by itself"
    assert [*said, world.service.status.problem] == ["", away, away, ""]


def test_while_the_store_is_away_the_sink_pauses_says_so_and_goes_on():
    world = _World(_readings(0, 1, 2))
    world.store.errors = [TransientError("restarting"), TransientError("restarting")]
    problems: list[str] = []
    world.source.while_waiting = lambda: problems.append(world.service.status.problem)
    diary = world.run()
    assert diary[2:] == [
        "pause",
        "pause",
        ("write", [0, 1, 2]),
        "resume",
        ("commit", {SCORED_0: 3}),
        "leave",
        "close",
    ]
    assert set(problems) == {"restarting"}
    assert world.service.status.problem == ""
    assert world.service.status.counters["retries"] == 2
    assert world.metric("fleetwatch_sink_paused") == 0


def test_a_store_that_was_emptied_is_opened_and_asked_anew_where_reading_goes_on():
    world = _World(_readings(7, 8, 9), _readings(0, 1))
    world.store.errors = [StoreEmptiedError("flushed")]
    diary = world.run()
    assert diary[2:] == [
        ("place", {SCORED_0: 0}),
        ("commit", {SCORED_0: 0}),
        ("write", [0, 1]),
        ("commit", {SCORED_0: 2}),
        "leave",
        "close",
    ]


def test_the_store_is_tidied_once_a_minute_between_batches():
    world = _World(*([_readings(n, n + 1, n + 2) for n in range(0, 30, 3)]), step_seconds=25)
    world.run()
    waits = [later - earlier for earlier, later in itertools.pairwise(world.store.tidied)]
    assert len(waits) >= 2
    assert set(waits) == {timedelta(seconds=75)}
    assert world.metric("fleetwatch_sink_tidied_total", what="devices") == 2 * len(world.store.tidied)


def test_a_store_with_much_to_do_is_tidied_again_soon():
    world = _World(_readings(0, 1, 2), _readings(3, 4, 5), _readings(6, 7, 8), step_seconds=25)
    world.store.rows_to_go = [MUCH, 5]
    world.run()
    assert world.store.tidied[1] - world.store.tidied[0] == timedelta(seconds=25)
    assert world.metric("fleetwatch_sink_tidied_total", what="rows") == MUCH + 5


def test_tidying_that_fails_holds_nothing_up():
    world = _World(_readings(0, 1, 2), _readings(3, 4, 5))
    world.store.tidy_errors = [TransientError("cancelled")]
    diary = world.run()
    assert ("write", [3, 4, 5]) in diary
    assert "pause" not in diary
    assert world.metric("fleetwatch_sink_tidying_failed_total") == 1


def test_a_batch_whose_partitions_went_away_meanwhile_is_dropped():
    world = _World(_readings(0, 1, 2), _readings(5))
    world.store.errors = [TransientError("restarting")]
    world.source.while_waiting = world.source.rebalance
    diary = world.run()
    assert [entry for entry in diary if entry[0] == "write"] == [("write", [5])]
    assert ("commit", {SCORED_0: 3}) not in diary


def test_a_stop_while_the_store_is_away_commits_nothing():
    world = _World(_readings(0))
    world.store.errors = [TransientError("gone")] * 1000
    world.source.while_waiting = world.service.stopping.set
    diary = world.run()
    assert [entry for entry in diary if entry[0] in ("write", "commit")] == [("commit", {SCORED_0: 0})]
    assert diary[-2:] == ["leave", "close"]


def test_an_error_that_needs_a_person_ends_the_process():
    world = _World(_readings(0))
    world.store.errors = [EnvironmentProblemError("run `fleetwatch sink migrate`")]
    with pytest.raises(EnvironmentProblemError, match="migrate"):
        world.run()
    assert world.diary[-2:] == ["leave", "close"]


def test_a_store_that_is_just_starting_is_waited_for():
    world = _World(_readings(0))
    world.store.open_errors = [TransientError("starting up")]
    assert ("write", [0]) in world.run()


def test_a_store_that_does_not_come_is_an_environment_problem():
    world = _World()
    world.store.open_errors = [TransientError("no answer: start it")] * 1000
    with pytest.raises(EnvironmentProblemError, match="start it"):
        world.run()


def test_a_row_that_the_store_refuses_is_dead_lettered_and_its_neighbours_stored():
    world = _World(_readings(0, 1, 2))
    world.store.bad = {1}
    diary = world.run()
    assert diary[2:6] == [("write", [0]), ("letters", [1]), ("write", []), ("write", [2])]
    [sent] = world.letters.sent
    assert (sent.topic, sent.offset, sent.stage, sent.reason) == (
        topics.SCORED,
        1,
        Stage.STORE,
        Reason.STORE_REFUSED,
    )
    assert "test store" in sent.detail
    assert world.counters() == {"refused_store": 1, "rows_written": 2, "batches": 1}
    assert world.metric("fleetwatch_sink_rows_written_total", topic=topics.SCORED) == 2


def test_a_refused_dead_letter_breeds_no_further_one():
    world = _World([event(letter(), 0)])
    world.store.bad = {0}
    world.run()
    assert world.letters.sent == []
    assert world.service.status.counters["refused_store"] == 1


def test_a_bad_detection_is_counted_only_since_the_streams_answer_for_it():
    world = _World([broken(topics.DETECTIONS), event(detection(), 1)])
    assert ("write", [1]) in world.run()
    assert world.letters.sent == []
    assert world.counters() == {"refused_input": 1, "rows_written": 1, "batches": 1}
    assert world.metric("fleetwatch_sink_rows_refused_total", by="input") == 1


def test_a_broken_derived_event_is_dead_lettered_before_the_offset_moves():
    world = _World([broken(topics.SCORED, 7)])
    assert world.run()[2:5] == [("letters", [7]), ("write", []), ("commit", {SCORED_0: 8})]
    assert world.letters.sent[0].stage is Stage.DECODE
    assert world.letters.sent[0].reason is Reason.NOT_FRAMED


def test_a_sink_that_does_not_answer_for_input_only_counts_it():
    world = _World([broken(topics.SCORED)], answers_for_input=False)
    world.run()
    assert world.letters.sent == []
    assert world.service.status.counters["refused_decode"] == 1


def test_a_broken_dead_letter_breeds_no_further_one():
    world = _World([broken(topics.DEAD_LETTERS)])
    world.run()
    assert world.letters.sent == []


def test_the_rate_is_told_once_a_second():
    meter = RateMeter(since=0)
    meter.add(300)
    assert meter.per_second(0.9) is None
    assert meter.per_second(1.5) == 200
    assert meter.per_second(2.5) == 0
