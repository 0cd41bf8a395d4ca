"""The mission's row "48 hours": `make soak` starts the whole stack, follows its canary, and reports however it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bench.soak.journal import ALERT_WAYS, FILE, WAYS, read
from tests.e2e.stack import processes_of, wait_until_gone
from tests.services import wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e


def test_a_soak_run_that_is_interrupted_reports_what_it_saw(short_tmp: Path) -> None:
    folder = short_tmp / "soak"
    options = ("--for", "3600", "--broker", "embedded", "--every", "1", "--bound", "60")
    canary = ("--canary-every", "0.5", "--anomaly-every", "4")
    command = [sys.executable, "-m", "bench.soak", "--folder", str(folder), *options, *canary]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: process.poll() is not None or arrived_everywhere(folder), what="canary", timeout=120)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode == 0, out + err
    wait_until_gone(folder)
    assert processes_of(folder) == []

    summary = json.loads(out.splitlines()[-1])
    assert summary["ok"]
    assert summary["canary"] >= 8
    assert summary["anomalies"] >= 2
    assert summary["canary_missed"] == summary["dead_letters"] == 0
    run = read(folder)
    names = {name for sample in run.samples for name in sample.processes}
    assert {"up", "worker", "sink-timescale", "sink-redis", "alert", "dashboard", "postgres", "redis"} <= names
    assert all(process.rss_mb > 1 for sample in run.samples for process in sample.processes.values())
    text = (folder / "report.md").read_text()
    assert text.startswith("**Good**")
    assert (folder / "report" / "memory.svg").exists()


def arrived_everywhere(folder: Path) -> bool:
    """Whether two anomalies of the canary have arrived in every way."""
    if not (folder / FILE).exists():
        return False
    anomalies = [canary for canary in read(folder).canaries if canary.is_anomaly]
    return len(anomalies) >= 2 and all(set(canary.arrived) == {*WAYS, *ALERT_WAYS} for canary in anomalies)
