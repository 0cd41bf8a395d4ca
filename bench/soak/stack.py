"""``fleetwatch up`` as a process of its own, and what can be seen of it from outside: processes, lag, disk."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Final, Self

import psutil
from confluent_kafka import KafkaException

from bench.soak.journal import Process, Sample
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.local import children, folders
from fleetwatch.local.lag import LagReader
from fleetwatch.local.status_page import fetch
from fleetwatch.settings import Settings

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

START_SECONDS: Final = 240.0
"""The first start on Apache Kafka fetches its jars."""
STOP_SECONDS: Final = 120.0
SUPERVISOR: Final = "up"
SINK: Final = "sink-timescale"
OUR_MODULE: Final = "fleetwatch.cli.main"
PARTS: Final = ("kafka", "postgres", "redis", "models", "logs")
MEGA: Final = 1e6


class Stack:
    """A running ``fleetwatch up``; a context manager that leaves nothing behind."""

    def __init__(self, folder: Path, arguments: Sequence[str]) -> None:
        """``folder`` is the state directory; ``arguments`` are those of ``up`` beside it."""
        self._folder = folder
        self._log = folder.parent / "up.log"
        self._command = [sys.executable, "-m", OUR_MODULE, "up", "--json", "--state-dir", str(folder), *arguments]
        self._process: subprocess.Popen[bytes] | None = None
        self._lag: LagReader | None = None
        self._cpu = psutil.cpu_times()
        self.settings = Settings()

    def __enter__(self) -> Self:
        """Start it and wait until readings are scored and every process answers.

        Raises:
            EnvironmentProblemError: it did not start; with its own words.

        """
        with self._log.open("wb") as log:
            self._process = children.start(self._command, log=log, on_parent_death=signal.SIGTERM)
        try:
            self._wait_until_scoring()
            self.settings = self._settings_of_children()
            self._lag = LagReader(self.settings)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> int:
        """Stop it as Ctrl-C does; return its exit code."""
        if self._lag is not None:
            self._lag.close()
            self._lag = None
        assert self._process is not None
        return children.stop(self._process, by=signal.SIGINT, timeout=STOP_SECONDS)

    @property
    def is_running(self) -> bool:
        """Whether the supervisor lives."""
        return self._process is not None and self._process.poll() is None

    def last_words(self) -> str:
        """Return the last line that ``up`` printed."""
        return folders.last_line(self._log)

    def _wait_until_scoring(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not (b"first scored reading" in self._log.read_bytes() and self._is_ready()):
            if not self.is_running:
                raise EnvironmentProblemError(f"`fleetwatch up` ended: {self.last_words()}")
            if time.monotonic() > deadline:
                raise EnvironmentProblemError(f"`fleetwatch up` is not ready after {START_SECONDS:.0f} s ({self._log})")
            time.sleep(0.2)

    def _is_ready(self) -> bool:
        ours = self.ours()
        return {SINK, "dashboard"} <= set(ours) and all(is_ready(process) for process in ours.values())

    def _settings_of_children(self) -> Settings:
        """Return the settings that ``up`` gave its sinks: they hold addresses and passwords."""
        environment = self.ours()[SINK].environ()
        values = {
            name: environment[f"FLEETWATCH_{name.upper()}"]
            for name in ("bootstrap_servers", "embedded_broker", "database_url", "redis_url")
        }
        return Settings.model_validate(values)

    # --- Looking

    def processes(self) -> dict[str, psutil.Process]:
        """Return what runs, by name: the supervisor and what it started."""
        assert self._process is not None
        found = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            supervisor = psutil.Process(self._process.pid)
            found[SUPERVISOR] = supervisor
            for child in supervisor.children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    found[name_of(child.cmdline())] = child
        found.pop("", None)
        return found

    def ours(self) -> dict[str, psutil.Process]:
        """Return those that are fleetwatch itself, the supervisor left out."""
        return {name: process for name, process in self.processes().items() if is_ours(process)}

    def look(self, *, with_disk: bool) -> Sample:
        """Return how the stack is now."""
        found = {}
        for name, process in self.processes().items():
            with contextlib.suppress(psutil.NoSuchProcess):
                found[name] = usage_of(process, with_children=name != SUPERVISOR)
        lags, ends = self._lags()
        return Sample(
            at=time.time(),
            processes=found,
            lags=lags,
            ends=ends,
            disk_mb=disk_of(self._folder) if with_disk else {},
            cpu_busy=self._cpu_busy(),
        )

    def _lags(self) -> tuple[dict[str, int], dict[str, int]]:
        assert self._lag is not None
        try:
            look = self._lag.look()
        except (KafkaException, TimeoutError):
            return {}, {}
        ends: dict[str, int] = {}
        for (topic, _), end in look.ends.items():
            ends[topic] = ends.get(topic, 0) + end
        return look.lags, ends

    def _cpu_busy(self) -> float:
        before, self._cpu = self._cpu, psutil.cpu_times()
        total = sum(self._cpu) - sum(before)
        idle = (self._cpu.idle + self._cpu.iowait) - (before.idle + before.iowait)
        return round(1 - idle / total, 3) if total > 0 else 0.0


def name_of(command: Sequence[str]) -> str:
    """Return a short name for a command line; an empty one for a process that is just beginning or ending."""
    if OUR_MODULE in command:
        words = command[command.index(OUR_MODULE) + 1 :]
        return "-".join(words[: 2 if words[:1] == ["sink"] else 1])
    for name, mark in (("postgres", "postgres"), ("redis", "redis-server"), ("kafka", "java")):
        if any(mark in word for word in command[:1]):
            return name
    return os.path.basename(command[0]) if command else ""  # noqa: PTH119  # a word of a command line


def is_ours(process: psutil.Process) -> bool:
    """Whether it is a process of fleetwatch that may be killed."""
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    return OUR_MODULE in command and "up" not in command


def is_ready(process: psutil.Process) -> bool:
    """Whether a process of ours says that it is ready."""
    try:
        port = int(process.environ().get("FLEETWATCH_HTTP_PORT", "0"))
    except (psutil.Error, ValueError):
        return False
    seen = fetch(port, now=time.monotonic()) if port else None
    return seen is not None and seen.ready


def usage_of(process: psutil.Process, *, with_children: bool) -> Process:
    """Return what a process uses, and all that it started if wanted.

    The memory that PostgreSQL's processes share counts once: each gets its part of it.

    Raises:
        psutil.NoSuchProcess: it has ended.

    """
    family = [process, *(process.children(recursive=True) if with_children else ())]
    rss = cpu = 0.0
    files = 0
    for member in family:
        try:
            with member.oneshot():
                rss += memory_of(member, is_shared=len(family) > 1)
                times = member.cpu_times()
                cpu += times.user + times.system
            with contextlib.suppress(psutil.AccessDenied):
                files += member.num_fds()
        except psutil.NoSuchProcess:
            if member is process:
                raise
    return Process(pid=process.pid, rss_mb=round(rss / MEGA, 2), cpu_seconds=round(cpu, 2), files=files)


def memory_of(process: psutil.Process, *, is_shared: bool) -> float:
    """Return resident bytes; of shared pages only its part, if wanted and allowed."""
    if is_shared:
        with contextlib.suppress(psutil.AccessDenied):
            return float(process.memory_full_info().pss)
    return float(process.memory_info().rss)


def disk_of(folder: Path) -> dict[str, float]:
    """Return the size (MB) of each part of the state directory."""
    sizes = {}
    for part in PARTS:
        total = 0
        for root, _, names in os.walk(folder / part):
            for name in names:
                with contextlib.suppress(OSError):  # removed in the meantime
                    total += os.lstat(os.path.join(root, name)).st_blocks * 512  # noqa: PTH118  # many files, often
        sizes[part] = round(total / MEGA, 2)
    return sizes
