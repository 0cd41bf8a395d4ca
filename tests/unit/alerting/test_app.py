"""The process's own logic between a scripted consumer and scripted channels; no broker."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from prometheus_client import CollectorRegistry

from alerting import app
from alerting.channels import Channels
from alerting.ports import RefusalReason, Refused, RetryAfter, RetryReason
from fleetwatch import avro, topics
from fleetwatch.records import AlertAction, DeadLetter, Stage
from fleetwatch.service import Status
from fleetwatch.settings import Settings
from tests.fakes.alerts import ScriptedNotifier, make_alert
from tests.services import wait_until


class FakeService:
    def __init__(self):
        self.status = Status(service="alert")
        self.registry = CollectorRegistry()
        self.stopping = threading.Event()

    def ready(self, doing):
        self.status.ready = True
        self.status.doing = doing


@dataclass
class FakeMessage:
    number: int
    at: int
    raw: bytes

    def partition(self):
        return self.number

    def offset(self):
        return self.at

    def value(self):
        return self.raw

    def key(self):
        return b"key"

    def timestamp(self):
        return (1, 1_700_000_000_000)


class FakeIntake:
    """Plays a script: each entry is a list of messages or a call on the callbacks."""

    def __init__(self, script):
        self.script = list(script)
        self.committed: list[dict[int, int]] = []
        self.pauses: list[bool] = []

    def __call__(self, _settings, **callbacks):
        self.__dict__.update(callbacks)
        return self

    def read(self, _timeout):
        step = self.script.pop(0) if self.script else []
        return step(self) or [] if callable(step) else step

    def pause(self, *, is_paused):
        if is_paused != (self.pauses[-1] if self.pauses else False):
            self.pauses.append(is_paused)

    def commit(self, offsets, **_options):
        if offsets:
            self.committed.append(offsets)

    def close(self):
        pass


class FakeActions:
    """The topic of what people did: one list at the start, then what is put into ``coming``."""

    before: ClassVar[list[AlertAction]]
    coming: ClassVar[list[AlertAction]]

    def __init__(self, _settings):
        pass

    def catch_up(self):
        return FakeActions.before

    def read(self):
        coming, FakeActions.coming = FakeActions.coming, []
        return coming

    def close(self):
        pass


class FakeProducer:
    made: list[FakeProducer]
    fail_first = False

    def __init__(self, _config):
        self.queue: list[Any] = []
        self.letters: list[DeadLetter] = []
        FakeProducer.made.append(self)

    def produce(self, topic, value, *, on_delivery, **_options):
        assert topic == topics.DEAD_LETTERS
        self.queue.append((avro.decode(value, DeadLetter), on_delivery))

    def poll(self, _timeout):
        queue, self.queue = self.queue, []
        for letter, on_delivery in queue:
            if FakeProducer.fail_first:
                FakeProducer.fail_first = False
                on_delivery("broker is away", None)
            else:
                self.letters.append(letter)
                on_delivery(None, None)

    def flush(self, _timeout):
        self.poll(0)


class Stuck(ScriptedNotifier):
    """Fails until released."""

    def __init__(self, lane):
        super().__init__(lane=lane)
        self.is_stuck = True

    async def send(self, notice):
        if self.is_stuck:
            return RetryAfter(reason=RetryReason.NOT_REACHABLE)
        return await super().send(notice)


@pytest.fixture
def run(monkeypatch):
    """Run the process over a script until a condition holds, then stop it; return its service and intake."""
    FakeProducer.made = []
    FakeActions.before, FakeActions.coming = [], []
    FakeProducer.fail_first = False
    monkeypatch.setattr(app.kafka, "ensure_topics", lambda *_: None)
    monkeypatch.setattr(app, "Producer", FakeProducer)
    monkeypatch.setattr(app, "ActionReader", FakeActions)
    monkeypatch.setattr(app, "STOP_SECONDS", 0.1)
    monkeypatch.setattr("alerting.backoff.FIRST_SECONDS", 0.001)

    def _run(script, *notifiers, until):
        service, intake = FakeService(), FakeIntake(script)
        monkeypatch.setattr(app, "Intake", intake)
        failures = []

        def work():
            try:
                assert app.run(Settings(), service, Channels(notifiers=notifiers)) == 0
            except BaseException as error:  # noqa: BLE001  # raised again in the test's thread
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            wait_until(lambda: failures or until(service, intake), what="the condition", timeout=10)
        finally:
            service.stopping.set()
            thread.join(10)
        assert failures == []
        return service, intake

    return _run


def fire(offset, *, partition=0, **changes):
    return FakeMessage(partition, offset, avro.encode(make_alert(f"{partition}-{offset}", **changes)))


def assign(**committed):
    return lambda intake: intake.on_assign({int(name[1:]): offset for name, offset in committed.items()})


def counter(service, name):
    return service.status.counters.get(name, 0)


def test_delivered_then_committed(run):
    service, _ = run(
        [assign(p0=None), [fire(0), fire(1)]],
        ScriptedNotifier(),
        until=lambda _, intake: {0: 2} in intake.committed,
    )
    assert counter(service, "notified") == counter(service, "notified_scripted") == 2
    assert service.status.doing == "sent 2 notices"


def test_messages_before_the_committed_offset_are_remembered_not_told(run):
    notifier = ScriptedNotifier()
    old = fire(5)
    run(
        [assign(p0=6), [old, FakeMessage(0, 6, old.raw), fire(7)]],
        notifier,
        until=lambda _, intake: {0: 8} in intake.committed,
    )
    assert notifier.sent == [("0-7",)]


def test_no_commit_while_one_channel_owes_an_answer(run):
    stuck, well = Stuck("stuck"), ScriptedNotifier(lane="well")
    service, intake = run(
        [assign(p0=None), [fire(0)]],
        stuck,
        well,
        until=lambda service, _: counter(service, "notified") == 1 and counter(service, "retries") > 2,
    )
    assert intake.committed == []
    assert service.status.doing.startswith("stuck not reachable, 1 notices wait")


def test_reading_pauses_while_too_much_waits_and_goes_on_after(run, monkeypatch):
    monkeypatch.setattr(app, "MOST_OPEN", 3)
    stuck = Stuck("stuck")

    def release(service, intake):
        if intake.pauses == [True]:
            stuck.is_stuck = False
        return intake.pauses == [True, False]

    run([assign(p0=None), [fire(offset) for offset in range(5)]], stuck, until=release)


def test_a_partition_that_was_taken_away_is_neither_told_nor_committed_nor_remembered(run):
    """Given back, its messages are told: that they were read before does not make them duplicates."""
    stuck = Stuck("stuck")

    def release(intake):
        stuck.is_stuck = False

    run(
        [
            assign(p0=None),
            [fire(0)],
            lambda intake: intake.on_revoke([0]),
            assign(p0=None),
            release,
            [fire(0)],
        ],
        stuck,
        until=lambda _, intake: {0: 1} in intake.committed,
    )
    assert stuck.sent == [("0-0",)]


def test_a_refused_notice_is_committed_once_its_dead_letter_is_safe(run):
    FakeProducer.fail_first = True
    refused = Refused(reason=RefusalReason.CHAT_NOT_FOUND, detail="Chat not found")
    service, _ = run(
        [assign(p0=None), [fire(0)]],
        ScriptedNotifier([refused]),
        until=lambda _, intake: {0: 1} in intake.committed,
    )
    (letter,) = FakeProducer.made[0].letters
    assert (letter.stage, letter.offset) == (Stage.NOTIFY, 0)
    assert letter.detail == "scripted: CHAT_NOT_FOUND: Chat not found"
    assert counter(service, "refused") == 1
    assert counter(service, "notified") == 0


@pytest.mark.parametrize("raw", [b"", b"\x00\x00\x00\x00\x01", b"nonsense", b"\x00" * 70_000])
def test_bytes_that_are_no_alert_become_a_dead_letter_and_stop_nothing(run, raw):
    notifier = ScriptedNotifier()
    run(
        [assign(p0=None), [FakeMessage(0, 0, raw), fire(1)]],
        notifier,
        until=lambda _, intake: {0: 2} in intake.committed,
    )
    assert FakeProducer.made[0].letters[0].stage is Stage.DECODE
    assert notifier.sent == [("0-1",)]


def test_a_failed_commit_is_repeated(run):
    def fail(intake):
        if intake.committed:
            intake.on_commit_failed([0])
        else:
            intake.script.insert(0, fail)

    run(
        [assign(p0=None), [fire(0)], fail],
        ScriptedNotifier(),
        until=lambda _, intake: intake.committed.count({0: 1}) == 2,
    )


def test_a_refused_token_is_a_problem_that_readyz_shows_until_it_is_solved(run):
    refused = RetryAfter(reason=RetryReason.TOKEN_REFUSED, delay=timedelta(seconds=0.3))
    problems = []
    service, _ = run(
        [assign(p0=None), [fire(0)]],
        ScriptedNotifier([refused]),
        until=lambda service, _: problems.append(service.status.problem) or counter(service, "notified"),
    )
    assert any("FLEETWATCH_TELEGRAM_TOKEN" in problem for problem in problems)
    assert service.status.problem == ""
