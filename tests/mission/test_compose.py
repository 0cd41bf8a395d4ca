"""What docker-compose.kafka.yml starts does start: its jobs and services, by their own commands and variables.

There is no container engine in the tests. The commands run as processes, with the addresses of other services put in
for the names that Docker would resolve, in the order in which Compose would start them. The file itself is checked in
tests/unit/test_compose.py.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest

from fleetwatch import avro
from fleetwatch.local.ports import free_port
from tests import compose, processes
from tests.fakes.schema_registry import SchemaRegistryDouble
from tests.services import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwatch.settings import Settings

pytestmark = pytest.mark.integration

RUN = ("worker", "sink-timescale", "sink-redis", "alert", "dashboard", "simulate")


class Places:
    """Which address stands for which name of the compose file, and what `.env` says."""

    def __init__(self, settings: Settings, folder: Path, registry: str, database: str, redis: str) -> None:
        self.dotenv = {
            "PARTITIONS": "4",
            "FLEETWATCH_SCHEMA_REGISTRY_URL": "http://schema-registry:8081/apis/ccompat/v7",
        }
        self._for = {
            "kafka:9092": settings.bootstrap_servers,
            "http://schema-registry:8081/apis/ccompat/v7": registry,
            "postgresql://postgres:fleetwatch@timescaledb:5432/fleetwatch": database,
            "redis://:fleetwatch@redis:6379/0": redis,
        }
        self._beside = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "FLEETWATCH_EMBEDDED_BROKER": "true",
            "FLEETWATCH_MODELS_DIR": str(folder / "models"),
        }

    def environment(self, name: str) -> dict[str, str]:
        given = compose.environment(name, self.dotenv)
        moved = {variable: self._for.get(value, value) for variable, value in given.items()}
        left = re.findall(rf"(?:^|[@/])({'|'.join(compose.SERVICES)}):[0-9]", "\n".join(moved.values()), re.MULTILINE)
        assert left == [], f"{name} talks to services that are not there"
        if "FLEETWATCH_HTTP_PORT" in moved:
            moved |= {"FLEETWATCH_HTTP_HOST": "127.0.0.1", "FLEETWATCH_HTTP_PORT": str(free_port())}
        if "FLEETWATCH_DASHBOARD_PORT" in moved:
            moved["FLEETWATCH_DASHBOARD_PORT"] = str(free_port())
        return moved | self._beside


def in_order(names: set[str]) -> list[str]:
    """Jobs and services so that each comes after what it waits for."""
    done: list[str] = []
    while left := [name for name in sorted(names) if name not in done]:
        free = [name for name in left if compose.dependencies(name).keys() & names <= set(done)]
        assert free, f"{left} wait for each other"
        done += free
    return done


def is_healthy(process: processes.Process, name: str) -> bool:
    """Run the health check of the file."""
    kind, program, *arguments = compose.SERVICES[name]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    asked = [argument.replace(":9100/", f":{process.port}/") for argument in arguments]
    return subprocess.run([sys.executable, *asked], capture_output=True, timeout=30, check=False).returncode == 0


def test_the_whole_small_start_comes_up_healthy_and_stores_readings(
    settings: Settings, postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    with SchemaRegistryDouble() as registry:
        places = Places(settings, tmp_path, registry.url, postgres_url, redis_url)
        order = in_order(compose.started("registry") & compose.OURS.keys() - {"replay-dataset"})
        jobs = [name for name in order if name in compose.JOBS]
        assert set(jobs) == {"topics", "schemas", "migrate"}
        assert max(order.index(job) for job in jobs) < min(order.index(name) for name in RUN)
        for job in jobs:
            done = subprocess.run(
                [sys.executable, "-m", "fleetwatch.cli.main", *compose.command(job)],
                env=places.environment(job), capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{job}: {done.stderr}"
        assert len(registry.ids) == len(avro.schema_ids())
        commands = {name: compose.command(name) for name in order if name in RUN}
        environments = {name: places.environment(name) for name in commands}
        with processes.running(commands, environments, tmp_path) as started:
            for name, process in started.items():
                process.wait_until_ready()
                assert is_healthy(process, name), name
            with psycopg.connect(postgres_url, autocommit=True) as database:
                wait_until(
                    lambda: database.execute("SELECT count(*) FROM readings").fetchone() > (100,), what="rows stored"
                )
            started["worker"].popen.kill()
            started["worker"].popen.wait()
            assert not is_healthy(started["worker"], "worker"), "the check sees that a process is gone"
