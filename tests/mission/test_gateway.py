"""Ingestion API: a device of one's own posts with the README's line, and its reading is stored with a score state."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from fleetwatch.local.ports import free_port
from fleetwatch.settings import Settings
from tests.e2e.stack import Up, wait_until_gone
from tests.services import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]


def readme_line() -> str:
    """Return the first curl command of the README, as it stands there."""
    section = (ROOT / "README.md").read_text().partition("## Bring your own devices")[2]
    found = re.search(r"^```sh\n(curl .*?)^```", section, re.DOTALL | re.MULTILINE)
    assert found, "the README shows no curl command for devices"
    return found[1]


def run(line: str) -> dict[str, Any] | None:
    """Run it in a shell; return the answer, None while nothing listens there."""
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode == 7:  # curl: could not connect
        return None
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def stored(url: str, device: str) -> Sequence[Any] | None:
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            return connection.execute(
                "SELECT sensor_type, site, value, unit, state FROM readings WHERE device_id = %s", [device]
            ).fetchone()
    except psycopg.errors.UndefinedTable:  # not migrated yet
        return None


def test_the_readmes_line_through_the_running_stack_to_a_stored_row(
    short_tmp: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, default = readme_line(), f"127.0.0.1:{Settings().gateway_port}"
    assert f"http://{default}/v1/readings" in line
    port = free_port()
    line = line.replace(default, f"127.0.0.1:{port}")  # other tests run stacks at the same time
    monkeypatch.setenv("FLEETWATCH_DATABASE_URL", postgres_url)
    state_dir = short_tmp / "mission-gateway"
    arguments = ("--no-producers", "--json", "--dashboard-port", "0", "--gateway-port", str(port))
    with Up(state_dir, *arguments) as up:
        up.wait_for_line(f"your devices post to http://127.0.0.1:{port}/v1/readings")
        answers: list[dict[str, Any]] = []
        wait_until(
            lambda: bool(answers.append(answer) or True) if (answer := run(line)) else False, what="serving", timeout=60
        )
        assert (answers[0]["accepted"], answers[0]["results"][0]["status"]) == (1, "accepted")
        try:
            wait_until(lambda: stored(postgres_url, "boiler-1") is not None, what="a stored row", timeout=120)
        except TimeoutError:
            pytest.fail(up.report())
        row = stored(postgres_url, "boiler-1")
        assert row is not None
        assert tuple(row) == ("temperature", "cellar", 58.2, "Cel", "WARMING_UP")
        up.process.terminate()
        assert up.wait(timeout=60) == 0, up.report()
    wait_until_gone(state_dir)
