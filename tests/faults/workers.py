"""Streams workers as processes: as users start them, and forked ones that kill themselves; and a group of those."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any, Self

from aiokafka import AIOKafkaClient
from aiokafka.protocol.group import LeaveGroupRequest
from confluent_kafka.admin import AdminClient

from fleetwatch import kafka, topics
from fleetwatch.local import children
from fleetwatch.local.ports import free_port
from tests.faults.dying_worker import Death, fork

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleetwatch.settings import Settings

PATIENCE = 120.0
"""Seconds for what takes a few: a machine may be busy."""


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)


def lag(settings: Settings) -> int:
    return sum(kafka.lag_of(settings, topics.GROUP_STREAMS).values())


def worker_environment(settings: Settings, folder: Path, port: int) -> dict[str, str]:
    return {
        "FLEETWATCH_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "FLEETWATCH_EMBEDDED_BROKER": str(settings.embedded_broker),
        "FLEETWATCH_PARTITIONS": str(settings.partitions),
        "FLEETWATCH_MODELS_DIR": str(folder / "models"),
        "FLEETWATCH_HTTP_PORT": str(port),
        "FLEETWATCH_CHECKPOINT_SECONDS": "0.3",
        "FLEETWATCH_WINDOW_SECONDS": "2",
        "FLEETWATCH_GRACE_SECONDS": "1",
        "FLEETWATCH_IDLE_SECONDS": "3",
    }


EXACT = {"FLEETWATCH_TRAINING_SAMPLE": "100000000", "FLEETWATCH_WINDOW_SECONDS": "2", "FLEETWATCH_GRACE_SECONDS": "1"}
"""No batch model: which one is in force at an offset depends on time."""


def rules_for(mark: str, folder: Path) -> dict[str, str]:
    """Settings under which one uninterrupted fold gives the same as any worker, with rules that fire often."""
    rules = folder / "rules.yaml"
    rules.write_text(
        "rules:\n"
        f"- {{name: high, kind: level, above: 2.2, clear: 0.0, match: {{device: '{mark}-*'}}}}\n"
        f"- {{name: mute, kind: silence, after_seconds: 1, match: {{device: '{mark}-quiet-*'}}}}\n"
    )
    return EXACT | {"FLEETWATCH_RULES_FILE": str(rules)}


class Told:
    """What a worker says of itself on its port."""

    port: int

    def status(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status", timeout=2) as answer:
                return dict(json.load(answer))
        except OSError:
            return {"ready": False, "counters": {}}

    def counted(self, name: str) -> int:
        return int(self.status()["counters"].get(name, 0))

    def wait_ready(self) -> None:
        wait_for(lambda: self.status()["ready"], 60, "the worker is ready")


class WorkerProcess(Told):
    """`fleetwatch worker` as users start it."""

    def __init__(self, settings: Settings, folder: Path, **extra: str) -> None:
        self.port = free_port()
        self._log = (folder / f"worker-{self.port}.log").open("wb")
        environment = os.environ | worker_environment(settings, folder, self.port) | extra
        command = [sys.executable, "-m", "fleetwatch.cli.main", "worker"]
        self.process = children.start(command, env=environment, log=self._log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self._log.close()
        return code


class ForkedWorker(Told):
    """The same, forked from a server that has imported everything, with a death or a poison of its own."""

    def __init__(
        self, settings: Settings, folder: Path, environment: dict[str, str], death: Death | None, poison: str
    ) -> None:
        self.port = free_port()
        self.log = folder / f"worker-{self.port}{'-' + death.point if death else ''}.log"
        environment = worker_environment(settings, folder, self.port) | environment
        self._process = fork(environment, self.log, death, poison)

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()
        self._process.join(PATIENCE)

    def wait(self) -> int:
        """Return the exit code: negative when a signal ended it."""
        self._process.join(PATIENCE)
        code = self._process.exitcode
        assert code is not None, f"the worker lives on: {self.log.read_text()[-3000:]}"
        return code

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()


class Crew:
    """The forked workers of one test; what is left of them ends with it."""

    def __init__(self, settings: Settings, folder: Path, environment: dict[str, str]) -> None:
        self._settings, self._folder, self._environment = settings, folder, environment
        self._all: list[ForkedWorker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._all:
            worker.kill()

    @property
    def alive(self) -> list[ForkedWorker]:
        return [worker for worker in self._all if worker.is_alive()]

    def last_words(self) -> str:
        """Return who is alive and how each one's log ends."""
        return "\n".join(
            f"--- {worker.log.name}, {'alive' if worker.is_alive() else 'ended'}\n{worker.log.read_text()[-1500:]}"
            for worker in self._all[-4:]
        )

    def start(self, death: Death | None = None, *, poison: str = "") -> ForkedWorker:
        """Start one more; when nobody is alive, those that died leave the group first: their session need not end."""
        if not self.alive and self._all:
            asyncio.run(_bury_all(self._settings))
        worker = ForkedWorker(self._settings, self._folder, self._environment, death, poison)
        self._all.append(worker)
        return worker


async def _bury_all(settings: Settings) -> None:
    """Have every member leave the workers' group."""
    admin = AdminClient(kafka.client_config(settings))
    group = topics.GROUP_STREAMS
    found = admin.describe_consumer_groups([group], request_timeout=10)[group].result(10)
    client = AIOKafkaClient(bootstrap_servers=settings.bootstrap_servers)
    await client.bootstrap()
    try:
        node = client.get_random_node()  # the only one
        for member in found.members:
            await client.send(node, LeaveGroupRequest(group, member.member_id))
    finally:
        await client.close()
