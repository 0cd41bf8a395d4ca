"""Children made of one-line shell scripts: real processes, no socket."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.local.plan import Role, Spec
from fleetwatch.local.processes import Child, Fleet, Phase, run_once
from fleetwatch.local.status_page import Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, kw_only=True)
class Script(Spec):
    script: str

    def command(self) -> list[str]:
        return ["/bin/sh", "-c", self.script]


def spec(name: str, script: str, role: Role = Role.SINK) -> Script:
    return Script(name=name, role=role, arguments=(), script=script)


UNTIL_TERM = "trap 'echo ended >&2; exit 0' TERM; while :; do sleep 0.02; done"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    made = []

    def of(script: str, role: Role = Role.SINK) -> Child:
        child = Child(spec("stub", script, role), env=dict(os.environ), logs=tmp_path)
        made.append(child)
        return child

    yield of
    for child in made:
        child.kill()


def wait_for(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_child_that_dies_starts_again_after_the_delay(make: Callable[..., Child]) -> None:
    child = make("exit 1")
    child.start(now=100.0)
    wait_for(lambda: not child.is_running)
    assert "ended with exit code 1" in child.check(now=101.0)
    assert (child.phase, child.next_start_at) == (Phase.BACKING_OFF, 101.5)
    assert child.check(now=101.4) == ""
    assert "started again" in child.check(now=101.5)
    assert (child.phase, child.restarts) == (Phase.RUNNING, 1)
    wait_for(lambda: not child.is_running)
    child.check(now=102.0)
    assert child.next_start_at == 103.0  # the second failure in a row waits longer


def test_after_a_minute_of_health_the_delay_begins_anew(make: Callable[..., Child]) -> None:
    child = make("exit 1")
    child.start(now=0.0)
    for now in (0.0, 10.0):
        wait_for(lambda: not child.is_running)
        child.check(now=now)
        child.check(now=now + 5.0)
    wait_for(lambda: not child.is_running)
    child.check(now=15.0 + 61.0)
    assert child.next_start_at == 76.5


def test_a_killed_child_is_named_with_its_signal(make: Callable[..., Child]) -> None:
    child = make(UNTIL_TERM)
    child.start(now=0.0)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    wait_for(lambda: not child.is_running)
    assert "was killed by SIGKILL" in child.check(now=1.0)


def test_exit_code_2_stops_everything_with_the_childs_own_words(make: Callable[..., Child]) -> None:
    child = make("echo 'fleetwatch: disk full: make room' >&2; echo noise >&2; exit 2")
    child.start(now=0.0)
    wait_for(lambda: not child.is_running)
    with pytest.raises(EnvironmentProblemError, match=r"^disk full: make room$"):
        child.check(now=1.0)


def test_a_producer_may_finish(make: Callable[..., Child]) -> None:
    child = make("exit 0", Role.PRODUCER)
    child.start(now=0.0)
    wait_for(lambda: not child.is_running)
    child.check(now=1.0)
    assert child.phase is Phase.FINISHED
    child.ask_to_stop()
    assert child.has_stopped()


def test_what_a_dead_child_had_started_dies_with_it(make: Callable[..., Child], tmp_path: Path) -> None:
    child = make(f"sleep 60 & echo $! > {tmp_path}/grandchild; exit 1")
    child.start(now=0.0)
    wait_for(lambda: not child.is_running)
    grandchild = int((tmp_path / "grandchild").read_text())
    child.check(now=1.0)
    wait_for(lambda: not is_alive(grandchild))


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def test_counters_are_summed_over_lives(make: Callable[..., Child]) -> None:
    child = make("exit 1")
    child.start(now=0.0)
    child.seen = Seen(at=0.0, counters={"produced": 40})
    assert child.counter("produced") == 40
    wait_for(lambda: not child.is_running)
    child.check(now=1.0)
    child.check(now=2.0)
    assert child.counter("produced") == 40
    child.seen = Seen(at=2.0, counters={"produced": 2})
    assert child.counter("produced") == 42


def test_a_printed_report_counts_instead_of_what_was_seen_before(make: Callable[..., Child]) -> None:
    child = make('echo \'{"produced": 50, "is_whole": true}\'; exit 0', Role.PRODUCER)
    child.start(now=0.0)
    child.seen = Seen(at=0.0, counters={"produced": 40, "failed": 1})
    wait_for(lambda: not child.is_running)
    child.check(now=1.0)
    assert (child.counter("produced"), child.counter("failed"), child.counter("is_whole")) == (50, 1, 0)


def test_a_report_is_not_counted_again_for_a_next_life_that_prints_none(make: Callable[..., Child]) -> None:
    child = make("echo '{\"produced\": 50}'; exit 1", Role.PRODUCER)
    child.start(now=0.0)
    wait_for(lambda: not child.is_running)
    child.check(now=1.0)
    object.__setattr__(child.spec, "script", "exit 1")
    child.check(now=2.0)
    wait_for(lambda: not child.is_running)
    child.check(now=3.0)
    assert child.counter("produced") == 50


def test_stages_stop_one_after_the_other(tmp_path: Path) -> None:
    def script(name: str) -> str:
        on_term = f"echo {name} >> {tmp_path}/order; exit 0"
        return f"trap '{on_term}' TERM; touch {tmp_path}/{name}; while :; do sleep 0.02; done"

    specs = [
        spec("sink", script("sink"), Role.SINK),
        spec("worker", script("worker"), Role.STREAMS),
        spec("producer", script("producer"), Role.PRODUCER),
    ]
    fleet = Fleet(specs, env=dict(os.environ), logs=tmp_path)
    fleet.start("sink", "worker", "producer")
    wait_for(lambda: all((tmp_path / name).exists() for name in ("sink", "worker", "producer")))
    assert fleet.stop() == []
    assert (tmp_path / "order").read_text().split() == ["producer", "worker", "sink"]
    assert {child.phase for child in fleet.children.values()} == {Phase.STOPPED}


@pytest.mark.parametrize(("timeout", "urgent"), [(0.3, False), (60.0, True)])
def test_what_does_not_stop_is_killed_in_time_or_at_once_when_urgent(
    tmp_path: Path, timeout: float, urgent: bool
) -> None:
    stubborn = f"trap '' TERM; touch {tmp_path}/up; while :; do sleep 0.02; done"
    fleet = Fleet([spec("stubborn", stubborn)], env=dict(os.environ), logs=tmp_path)
    fleet.start("stubborn")
    wait_for((tmp_path / "up").exists)
    began = time.monotonic()
    assert fleet.stop(timeout=timeout, is_urgent=lambda: urgent) == ["stubborn"]
    assert time.monotonic() - began < 5
    assert not fleet.children["stubborn"].is_running


def test_a_child_dies_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time\n"
        "from fleetwatch.local import children\n"
        f"log = open({str(tmp_path / 'log')!r}, 'wb')\n"
        "child = children.start(['sleep', '60'], log=log)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == -signal.SIGKILL
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not is_alive(pid))


def test_a_step_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblemError, match="no database answers"):
        run_once(
            ["/bin/sh", "-c", "echo 'fleetwatch: no database answers' >&2; exit 2", "fleetwatch.cli.main"],
            env=dict(os.environ),
            log_path=tmp_path / "log",
            timeout=10,
        )


def test_a_step_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblemError, match=r"`fleetwatch sink migrate` takes too long"):
        run_once(
            ["/bin/sh", "-c", "sleep 60", "fleetwatch.cli.main", "sink", "migrate"],
            env=dict(os.environ),
            log_path=tmp_path / "log",
            timeout=0.1,
        )
