"""One measurement: a fresh broker, its input, one contestant, samples of what it delivered and what CPU it took."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from confluent_kafka import Consumer, KafkaException, TopicPartition

from fleetwatch import kafka, topics
from fleetwatch.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ENVS = HERE / ".envs"
START_SECONDS = 60.0


class BenchError(Exception):
    """A contestant or the broker did not do what the comparison needs; the text says which and what."""


@dataclass(frozen=True)
class Contestant:
    """A program, the events it gets, and from which of them on it is measured."""

    name: str
    command: tuple[str, ...]
    events: int
    warm: int
    environment: dict[str, str] = field(default_factory=dict)
    is_ours: bool = False

    @property
    def output(self) -> str:
        return topics.SCORED if self.is_ours else f"bench.{self.name}"


@contextmanager
def broker(kind: str) -> Iterator[Settings]:
    """A fresh broker in a process of its own, with the project's topics."""
    command = [sys.executable, str(HERE / "broker.py"), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            if not address:
                raise BenchError(f"the {kind} broker does not start")
            settings = Settings(bootstrap_servers=address, embedded_broker=kind == "embedded")
            kafka.ensure_topics(settings)
            yield settings
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(25)
            except subprocess.TimeoutExpired:
                process.kill()


def make_topics(settings: Settings, contestant: Contestant) -> None:
    """The contestant's output topic and Faust's changelog: none of them makes topics on the embedded broker."""
    kafka.ensure_topics(settings, [contestant.output, f"bench-{contestant.name}-counts-changelog"])


class Ends:
    """How many records a topic has got."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._consumer = Consumer(kafka.consumer_config(settings, "bench-ends") | {"log_level": 0})
        self._parts = [TopicPartition(topic, number) for number in kafka.partitions_of(self._consumer, topic)]
        self.kept_from: dict[int, int] = {}

    def total(self) -> int:
        ends = 0
        for part in self._parts:
            low, high = self._consumer.get_watermark_offsets(part, timeout=10)
            self.kept_from[part.partition] = low
            ends += max(high, 0)
        return ends

    def close(self) -> None:
        self._consumer.close()


class Running:
    """A contestant's process and everything it starts."""

    def __init__(self, settings: Settings, contestant: Contestant, folder: Path) -> None:
        self.contestant = contestant
        self.log = folder / f"{contestant.name}.log"
        state = folder / "state"
        state.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLEETWATCH_")}
        environment = (
            kept
            | {
                "BENCH_BROKERS": settings.bootstrap_servers,
                "BENCH_GROUP": f"bench-{contestant.name}",
                "BENCH_OUTPUT": contestant.output,
                "BENCH_STATE": str(state),
                "BENCH_EMBEDDED": str(int(settings.embedded_broker)),
                "FLEETWATCH_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
                "FLEETWATCH_EMBEDDED_BROKER": str(settings.embedded_broker).lower(),
                "FLEETWATCH_STATE_DIR": str(state),
                "FLEETWATCH_MODELS_DIR": str(state / "models"),
                "FLEETWATCH_LOG_LEVEL": "warning",
            }
            | contestant.environment
        )
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                contestant.command,
                cwd=ROOT if contestant.is_ours else HERE / "contestants",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._tree = psutil.Process(self.process.pid)

    def cpu(self) -> float:
        """CPU-seconds of the process tree so far, user and system, all threads, ended children included."""
        total = 0.0
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [self._tree, *self._tree.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += sum(process.cpu_times()[:4])
        return total

    def memory(self) -> int:
        """Resident bytes of the process tree."""
        total = 0
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [self._tree, *self._tree.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += process.memory_info().rss
        return total

    def require_alive(self) -> None:
        if self.process.poll() is not None:
            raise BenchError(f"{self.contestant.name} ended with {self.process.returncode}:\n{self.tail()}")

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def stop(self) -> None:
        """End the whole session that was started for it: its id is the process's."""
        for number, patience in ((signal.SIGTERM, 8), (signal.SIGKILL, 5)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
                return


@contextmanager
def running(settings: Settings, contestant: Contestant) -> Iterator[Running]:
    with tempfile.TemporaryDirectory(prefix="fleetwatch-bench-", ignore_cleanup_errors=True) as folder:
        subject = Running(settings, contestant, Path(folder))
        try:
            yield subject
        finally:
            subject.stop()


@dataclass
class Outcome:
    """Samples of (records delivered, CPU-seconds, seconds), memory at the end, and what was compared."""

    samples: list[tuple[int, float, float]]
    rss_bytes: int
    facts: dict[str, Any] = field(default_factory=dict)


def work_off(settings: Settings, contestant: Contestant, *, seconds: float) -> Outcome:
    """Let a contestant work off the backlog; stop ``seconds`` after it is warm, or when all is delivered."""
    ends = Ends(settings, contestant.output)
    samples: list[tuple[int, float, float]] = []
    began = time.monotonic()
    warm_at: float | None = None
    try:
        with running(settings, contestant) as subject:
            while True:
                try:
                    records = ends.total()
                except KafkaException as error:
                    raise BenchError(f"{contestant.name}: the broker does not answer: {error}") from None
                now = time.monotonic()
                samples.append((records, subject.cpu(), now))
                if warm_at is None and records >= contestant.warm:
                    warm_at = now
                if records >= contestant.events or (warm_at is not None and now - warm_at > seconds):
                    break
                if warm_at is None and now - began > START_SECONDS:
                    raise BenchError(
                        f"{contestant.name} scored {records} events in {START_SECONDS:.0f} s:\n{subject.tail()}"
                    )
                subject.require_alive()
                time.sleep(0.02)
            return Outcome(samples, subject.memory())
    finally:
        ends.close()
