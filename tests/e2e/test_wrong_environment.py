"""Wrong surroundings: one line that says what to do, exit code 2, no stack trace, nothing left running."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fleetwatch.local.ports import free_port
from tests.e2e.stack import Up, processes_of, up_command, wait_until_gone
from tests.services import wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

HOLD_LOCK = """
import sys
from pathlib import Path
from fleetwatch.local.preflight import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
RUN_STORES = """
import os, sys
from pathlib import Path
import psycopg, redis
from fleetwatch.local.postgres import LocalPostgres
from fleetwatch.local.redis_server import LocalRedis
folder = Path(sys.argv[1])
with LocalPostgres(folder / "postgres") as postgres, LocalRedis(folder / "redis") as cache:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS runs (id serial)")
        connection.execute("INSERT INTO runs DEFAULT VALUES")
        rows = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
    with redis.Redis.from_url(cache.url) as client:
        print(rows, client.incr("runs"), flush=True)
    victims = {"postgres": postgres._process.pid, "redis": cache._process.pid, "self": os.getpid()}
    for victim in sys.argv[2:]:
        os.kill(victims[victim], 9)
"""


def run_up(state_dir: Path, *arguments: str, env: dict[str, str] | None = None) -> str:
    """Run to the end; check what every wrong environment has in common; return the line."""
    done = subprocess.run(
        up_command(state_dir, *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | (env or {}),
    )
    assert done.returncode == 2, (done.stdout, done.stderr)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("fleetwatch: ")
    assert "Traceback" not in done.stdout
    wait_until_gone(state_dir)
    return lines[0]


def test_dashboard_port_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        line = run_up(tmp_path, "--dashboard-port", port)
    assert f"port {port} for the dashboard" in line
    assert "--dashboard-port" in line


def test_of_two_that_start_at_once_for_one_dashboard_port_one_runs_and_one_says_why_not(tmp_path: Path) -> None:
    """Neither listens yet: the dashboard is the last process to start."""
    arguments = ("--no-producers", "--json", "--dashboard-port", str(free_port()))
    with Up(tmp_path / "a", *arguments) as one, Up(tmp_path / "b", *arguments) as two:
        both = (one, two)
        wait_until(lambda: any(up.process.poll() is not None for up in both), what="one of them giving way")
        loser, winner = sorted(both, key=lambda up: up.process.poll() is None)
        assert loser.wait(timeout=5) == 2, loser.report()
        assert loser.stderr.count("\n") == 1, loser.stderr
        assert "for the dashboard cannot be used (a `fleetwatch up` has it): " in loser.stderr
        wait_until_gone(loser.state_dir)
        winner.wait_for_line("embedded broker")
        assert winner.process.poll() is None, winner.report()


def test_state_directory_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = run_up(tmp_path / "file" / "state", "--dashboard-port", "0")
    assert "cannot write in" in line
    assert "--state-dir" in line


def test_another_up_on_the_same_state_directory(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HOLD_LOCK,
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        done = subprocess.run(
            up_command(tmp_path, "--dashboard-port", "0"), capture_output=True, text=True, timeout=60, check=False
        )
        holder.kill()
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"process {holder.pid}" in done.stderr


def test_broker_not_reachable(tmp_path: Path) -> None:
    line = run_up(tmp_path, "--dashboard-port", "0", "--broker", f"127.0.0.1:{free_port()}")
    assert "no Kafka broker answers" in line


def test_broker_that_is_no_address(tmp_path: Path) -> None:
    assert "--broker nonsense" in run_up(tmp_path, "--dashboard-port", "0", "--broker", "nonsense")


def test_kafka_without_java(tmp_path: Path) -> None:
    line = run_up(tmp_path, "--dashboard-port", "0", "--broker", "kafka", env={"PATH": str(tmp_path), "JAVA_HOME": ""})
    assert "Java 17" in line


def test_setting_with_a_wrong_value(tmp_path: Path) -> None:
    line = run_up(tmp_path, "--dashboard-port", "0", env={"FLEETWATCH_WINDOW_SECONDS": "-1"})
    assert "FLEETWATCH_WINDOW_SECONDS" in line


def test_what_a_child_finds_wrong_is_said_by_the_supervisor(tmp_path: Path) -> None:
    line = run_up(tmp_path, "--dashboard-port", "0", "--scenario", "no-such-scenario")
    assert "there is no scenario 'no-such-scenario'" in line


def test_disk_full_while_the_database_is_made(tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk that is full: both make a write fail."""
    done = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -f 2000; exec "$@"', "sh", *up_command(tmp_path, "--dashboard-port", "0")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stderr.count("\n") == 1, done.stderr
    assert "database" in done.stderr
    wait_until_gone(tmp_path)


def test_a_server_that_was_killed_with_its_data_is_found_again(tmp_path: Path) -> None:
    """PostgreSQL and Redis after kill -9 of themselves and of their owner: lock files are stale, data is there."""
    folder = tmp_path / "data"

    def run(*victims: str) -> tuple[str, int]:
        done = subprocess.run(
            [sys.executable, "-c", RUN_STORES, str(folder), *victims],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout.strip() or done.stderr, done.returncode

    assert run("self") == ("1 1", -signal.SIGKILL)
    assert run("postgres", "redis", "self") == ("2 2", -signal.SIGKILL)
    assert run() == ("3 3", 0)
    wait_until_gone(folder)
    assert processes_of(folder) == []
