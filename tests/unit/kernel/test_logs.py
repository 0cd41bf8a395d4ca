"""Log lines: structured, one a line, on standard error, the same form for libraries."""

from __future__ import annotations

import json
import subprocess
import sys

PROCESS = """
import logging, sys
from fleetwatch.logs import configure_logs, get_logger
early = get_logger("made.before")
configure_logs(level="info", json=sys.argv[1] == "json", service="probe")
early.info("stored", rows=5, text="two\\nlines")
early.debug("unheard")
logging.getLogger("some.library").warning("careful: %s", "hot")
logging.getLogger("httpx").info("unheard")
try:
    1 / 0
except ZeroDivisionError:
    early.exception("failed")
"""


def lines_of(form: str) -> tuple[str, list[str]]:
    done = subprocess.run([sys.executable, "-c", PROCESS, form], capture_output=True, text=True, timeout=20, check=True)
    return done.stdout, done.stderr.splitlines()


def test_json_lines_have_time_level_service_and_facts():
    out, lines = lines_of("json")
    stored, careful, failed = (json.loads(line) for line in lines)
    assert out == ""
    assert stored.pop("timestamp").endswith("Z")
    assert stored == {
        "event": "stored",
        "level": "info",
        "logger": "made.before",
        "service": "probe",
        "rows": 5,
        "text": "two\nlines",
    }
    assert (careful["event"], careful["level"], careful["logger"]) == ("careful: hot", "warning", "some.library")
    assert "ZeroDivisionError" in failed["exception"]


def test_console_lines_are_for_people():
    out, lines = lines_of("console")
    assert out == ""
    assert "stored" in lines[0]
    assert "rows=5" in lines[0]
    assert "\x1b" not in "".join(lines)
    assert not any("unheard" in line for line in lines)
