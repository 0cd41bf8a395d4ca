"""The children of ``fleetwatch up``: started, watched, started again, stopped. For the main thread only."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.local import children, folders
from fleetwatch.local.plan import (
    HEALTHY_AFTER_SECONDS,
    AfterExit,
    after_exit,
    restart_delay,
    stop_stages,
)
from fleetwatch.local.ports import free_port

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from fleetwatch.local.plan import Spec
    from fleetwatch.local.status_page import Seen

OUR_PREFIX = "fleetwatch: "
"""How the command line begins the one line about a wrong environment."""


class Phase(Enum):
    """Where a child is in its life."""

    WAITING = "waiting"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    FINISHED = "finished"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Child:
    """One process of the plan through all its lives. ``seen`` is set by another thread (the watcher)."""

    def __init__(self, spec: Spec, *, env: Mapping[str, str], logs: Path) -> None:
        self.spec = spec
        self.phase = Phase.WAITING
        self.restarts = 0
        self.port = 0
        self.seen: Seen | None = None
        self.log_path = logs / f"{spec.name}.log"
        self.out_path = logs / f"{spec.name}.out"
        self.started_at = 0.0
        self.next_start_at = 0.0
        self.env = env
        self._failures_in_a_row = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._counters_of_earlier_lives: Counter[str] = Counter()
        for path in (self.log_path, self.out_path):
            path.write_bytes(b"")

    @property
    def is_running(self) -> bool:
        """Whether the process exists."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Process number, while it runs."""
        return self._process.pid if self._process is not None and self.is_running else None

    def counter(self, name: str) -> int:
        """Return a counter of its /status page, over all its lives."""
        seen = self.seen
        return self._counters_of_earlier_lives[name] + (seen.counters.get(name, 0) if seen is not None else 0)

    def start(self, now: float) -> None:
        """Start it, with a fresh port for its health page; output is appended to its files."""
        self.port = free_port()
        self.seen = None
        env = {**self.env, "FLEETWATCH_HTTP_PORT": str(self.port)}
        with self.log_path.open("ab") as log, self.out_path.open("ab") as out:
            self._process = children.start(self.spec.command(), log=log, stdout=out, env=env)
        self.phase = Phase.RUNNING
        self.started_at = now

    def check(self, now: float) -> str:
        """Notice its end, start it again when its time has come; return a line for people, or ``""``.

        Raises:
            EnvironmentProblemError: it ended because its surroundings are wrong; with its own words.

        """
        if self.phase is Phase.BACKING_OFF and now >= self.next_start_at:
            self.restarts += 1
            self.start(now)
            return f"{self.spec.name} is started again"
        if self.phase is not Phase.RUNNING or self._process is None:
            return ""
        exit_code = self._process.poll()
        if exit_code is None:
            return ""
        children.kill_group(self._process)  # what it may have started itself
        self._keep_counters()
        what_next = after_exit(self.spec.role, exit_code)
        if what_next is AfterExit.STOP_ALL:
            self.phase = Phase.STOPPED
            raise EnvironmentProblemError(self._last_words())
        if what_next is AfterExit.FINISHED:
            self.phase = Phase.FINISHED
            return f"{self.spec.name} has finished"
        was_healthy = now - self.started_at >= HEALTHY_AFTER_SECONDS
        self._failures_in_a_row = 1 if was_healthy else self._failures_in_a_row + 1
        delay = restart_delay(self._failures_in_a_row)
        self.phase = Phase.BACKING_OFF
        self.next_start_at = now + delay
        return f"{self.spec.name} {_how_it_ended(exit_code)}; next start in {delay:.1f} s (log: {self.log_path})"

    def ask_to_stop(self) -> None:
        """Send SIGTERM once; it is not started again after that."""
        if self.phase is Phase.RUNNING and self._process is not None and self.is_running:
            self.phase = Phase.STOPPING
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
        elif self.phase is not Phase.FINISHED and self.phase is not Phase.STOPPING:
            self.phase = Phase.STOPPED

    def has_stopped(self) -> bool:
        """Whether nothing of it runs any more, after ``ask_to_stop``."""
        if self.phase is not Phase.STOPPING:
            return True
        if self.is_running:
            return False
        self._end_of_life()
        return True

    def kill(self) -> None:
        """End it and what it started, at once."""
        if self._process is not None:
            children.kill_group(self._process)
            self._process.wait()
            if self.phase is Phase.STOPPING:
                self._end_of_life()
            self.phase = Phase.STOPPED

    def _end_of_life(self) -> None:
        self.phase = Phase.STOPPED
        if self._process is not None:
            children.kill_group(self._process)
        self._keep_counters()

    def _keep_counters(self) -> None:
        """Add this life's counters to the sum: of its report if it printed one, else as last seen."""
        seen, self.seen = self.seen, None
        counters = Counter(seen.counters if seen is not None else {})
        counters.update({k: v - counters[k] for k, v in self._report().items()})
        self._counters_of_earlier_lives.update(counters)

    def _report(self) -> dict[str, int]:
        """Return the whole numbers in the JSON object that a producer prints as its last line."""
        line = folders.last_line(self.out_path)
        if not line.startswith("{"):
            return {}
        try:
            report = json.loads(line)
        except ValueError:
            return {}
        with self.out_path.open("ab") as out:  # so that a next life that is killed does not count it again
            out.write(b"\n-\n")
        return {k: v for k, v in report.items() if isinstance(v, int) and not isinstance(v, bool)}

    def _last_words(self) -> str:
        line = folders.last_line(self.log_path, containing=(OUR_PREFIX,))
        return line.removeprefix(OUR_PREFIX) or f"{self.spec.name} ended with exit code 2 (log: {self.log_path})"


class Fleet:
    """All children together."""

    def __init__(self, specs: Sequence[Spec], *, env: Mapping[str, str], logs: Path) -> None:
        self.children = {spec.name: Child(spec, env=env, logs=logs) for spec in specs}
        self._stages = stop_stages(specs)

    def set_environment(self, env: Mapping[str, str]) -> None:
        """Give this environment to whatever starts from now on."""
        for child in self.children.values():
            child.env = env

    def start(self, *names: str) -> None:
        """Start these, if they are in the plan."""
        for name in names:
            if name in self.children:
                self.children[name].start(time.monotonic())

    def check(self) -> list[str]:
        """Look after every child; return lines for people.

        Raises:
            EnvironmentProblemError: from ``Child.check``.

        """
        now = time.monotonic()
        return [line for child in self.children.values() if (line := child.check(now))]

    def total(self, counter: str, names: Iterable[str] | None = None) -> int:
        """Return the sum of a counter over children."""
        return sum(self.children[name].counter(counter) for name in names or self.children)

    def stop(
        self,
        stages: Iterable[Iterable[str]] | None = None,
        *,
        timeout: float = 20.0,
        on_wait: Callable[[], None] = lambda: None,
        is_urgent: Callable[[], bool] = lambda: False,
    ) -> list[str]:
        """Stop children stage by stage; return the names of those that had to be killed.

        ``on_wait`` is called while waiting; as soon as ``is_urgent`` says yes, everything is killed.
        """
        killed = []
        for stage in self._stages if stages is None else stages:
            members = [self.children[name] for name in stage]
            for child in members:
                child.ask_to_stop()
            deadline = time.monotonic() + timeout
            while waiting := [child for child in members if not child.has_stopped()]:
                if is_urgent() or time.monotonic() > deadline:
                    for child in waiting:
                        child.kill()
                        killed.append(child.spec.name)
                    break
                on_wait()
                time.sleep(0.03)
        return killed

    def kill(self) -> None:
        """End everything at once."""
        for child in self.children.values():
            child.kill()


def run_once(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    log_path: Path,
    timeout: float,
    while_waiting: Callable[[], None] = lambda: None,
) -> None:
    """Run a command to its end.

    Raises:
        EnvironmentProblemError: it did not exit with 0 in time; with its own words if it has any.

    """
    with log_path.open("wb") as log:
        process = children.start(command, log=log, env=env)
    deadline = time.monotonic() + timeout
    try:
        while process.poll() is None:
            if time.monotonic() > deadline:
                raise EnvironmentProblemError(f"`{_shown(command)}` takes too long (log: {log_path})")
            while_waiting()
            time.sleep(0.05)
    finally:
        children.kill_group(process)
        exit_code = process.wait()
    if exit_code != 0:
        words = folders.last_line(log_path, containing=(OUR_PREFIX,)).removeprefix(OUR_PREFIX)
        raise EnvironmentProblemError(f"`{_shown(command)}` failed: {words} (log: {log_path})")


def _shown(command: Sequence[str]) -> str:
    words = list(command)
    return " ".join(["fleetwatch", *words[words.index("fleetwatch.cli.main") + 1 :]])


def _how_it_ended(exit_code: int) -> str:
    if exit_code < 0:
        try:
            return f"was killed by {signal.Signals(-exit_code).name}"
        except ValueError:
            return f"was killed by signal {-exit_code}"
    return f"ended with exit code {exit_code}"
