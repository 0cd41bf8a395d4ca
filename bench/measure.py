"""One measurement: a fresh broker, its input, one contestant, samples of what it delivered and what CPU it took.

The window that counts begins when ``warm`` records are delivered (start, join and compilation are left out) and lasts
for some seconds. All through it a feeder keeps ``ahead`` readings in front of the contestant, so that what is fetched
before the window and what is fetched in it for later are the same.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from confluent_kafka import Consumer, KafkaException, TopicPartition

from bench import figures
from bench.environments import HERE
from bench.feed import Feeder
from bench.outputs import Follower
from fleetwatch import kafka, topics
from fleetwatch.local import children
from fleetwatch.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.feed import Reading

ROOT = HERE.parent
START_SECONDS, DRAIN_SECONDS = 60.0, 60.0
BURST_SECONDS = 30.0
SETTLE_SECONDS = 1.5
"""After the last scored record its counts and dead letters come too: a checkpoint of ours is every second."""


class BenchError(Exception):
    """A contestant or the broker did not do what the comparison needs; the text says which and what."""


@dataclass(frozen=True)
class Contestant:
    """A program, the backlog that is kept in front of it, and after how many records it counts as warm.

    ``counts_apart``: its counts are not in its records, but in a topic of their own.
    """

    name: str
    command: tuple[str, ...]
    ahead: int
    warm: int
    environment: dict[str, str] = field(default_factory=dict)
    is_ours: bool = False
    counts_apart: bool = False
    in_bursts: bool = False
    """It delivers in large bursts: it is measured for at least two whole ones, however long that takes."""
    once: bool = False
    """It takes part in the first round only: no ratio is made to it."""

    @property
    def output(self) -> str:
        return topics.SCORED if self.is_ours else f"bench.{self.name}"

    @property
    def counts(self) -> str:
        return topics.COUNTS if self.is_ours else f"bench.{self.name}.counts"


@contextmanager
def broker(kind: str) -> Iterator[Settings]:
    """A fresh broker in a process of its own, with the project's topics."""
    command = [sys.executable, "-m", "bench.broker", kind]
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
    """The contestant's topics and Faust's changelog: none of them makes topics on the embedded broker."""
    names = [contestant.output, contestant.counts, f"bench-{contestant.name}-counts-changelog"]
    kafka.ensure_topics(settings, names)


class Ends:
    """How many records a topic has got."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._consumer = Consumer(kafka.consumer_config(settings, "bench-ends") | {"log_level": 0})
        self._parts = [TopicPartition(topic, number) for number in kafka.partitions_of(self._consumer, topic)]

    def total(self) -> int:
        """Return the sum of the end offsets.

        Raises:
            BenchError: the broker does not answer.

        """
        try:
            return sum(max(self._consumer.get_watermark_offsets(part, timeout=10)[1], 0) for part in self._parts)
        except KafkaException as error:
            raise BenchError(f"the broker does not answer: {error}") from None

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
                "BENCH_COUNTS": contestant.counts,
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
            self.process = children.start(
                contestant.command,
                log=log,
                env=environment,
                cwd=ROOT if contestant.is_ours else HERE / "contestants",
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
        """End it and what it started at once: its broker ends too, there is nothing to save."""
        children.kill_group(self.process)
        self.process.wait(10)


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
    """What one measurement gave; ``samples`` begin when the contestant started."""

    samples: list[figures.Sample]
    rss_bytes: list[int]
    """Resident memory at each sample."""
    fed: int
    least_backlog: int
    followed: Follower | None


def work_off(
    settings: Settings,
    contestant: Contestant,
    readings: Sequence[Reading],
    *,
    seconds: float,
    follow: bool = False,
) -> Outcome:
    """Measure a contestant for some seconds once it is warm, or until the readings are used up.

    With ``follow`` everything that it writes is read along, and it is let finish what it was fed.

    Raises:
        BenchError: it ended, did not start, or did not finish.

    """
    feeder = Feeder(settings, readings, contestant.ahead)
    feeder.fill()
    ends = Ends(settings, contestant.output)
    follower = Follower(settings, contestant.output) if follow else None
    samples: list[figures.Sample] = []
    rss: list[int] = []
    warm_at, least = None, contestant.ahead
    try:
        with running(settings, contestant) as subject:
            began = time.monotonic()
            while True:
                records, cpu, now = ends.total(), subject.cpu(), time.monotonic()
                samples.append(figures.Sample(records, cpu, now - began))
                rss.append(subject.memory())
                subject.require_alive()
                if warm_at is None and records >= contestant.warm:
                    warm_at = now
                if warm_at is None and now - began > START_SECONDS:
                    raise BenchError(
                        f"{contestant.name}: {records} records in {START_SECONDS:.0f} s:\n{subject.tail()}"
                    )
                if warm_at is not None:
                    least = min(least, feeder.fed - records)
                    is_over = now - warm_at > seconds and (
                        not contestant.in_bursts
                        or len(figures.ends_of_pauses(samples, contestant.warm)) > 2
                        or now - warm_at > BURST_SECONDS
                    )
                    if is_over or records >= len(readings) - contestant.ahead // 2:
                        break
                feeder.top_up(records)
                time.sleep(0.02)
            if follower is not None:
                _finish(contestant, subject, ends, feeder.fed)
                follower.stop(expected=feeder.fed)
            return Outcome(samples, rss, feeder.fed, least, follower)
    finally:
        if follower is not None:
            follower.stop(expected=0)
        ends.close()


def _finish(contestant: Contestant, subject: Running, ends: Ends, fed: int) -> None:
    """Wait until everything that was fed is delivered, and then for what comes after."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while (records := ends.total()) < fed:
        subject.require_alive()
        if time.monotonic() > deadline:
            raise BenchError(f"{contestant.name} scored {records} of {fed} readings and no more:\n{subject.tail()}")
        time.sleep(0.05)
    time.sleep(SETTLE_SECONDS)
