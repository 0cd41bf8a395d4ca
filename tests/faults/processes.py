"""A sink as a process of its own, and what it says of itself."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Self

from fleetwatch.local import children
from tests.services import free_port

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from fleetwatch.settings import Settings


class SinkProcess:
    """``fleetwatch sink NAME``; a context manager that kills it. ``start`` may be called again after ``kill``."""

    def __init__(self, name: str, settings: Settings, log: Path, **environment: str) -> None:
        self.name, self._log = name, log
        self.port = free_port()
        self._environment = os.environ | {
            "FLEETWATCH_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "FLEETWATCH_EMBEDDED_BROKER": str(settings.embedded_broker).lower(),
            "FLEETWATCH_HTTP_PORT": str(self.port),
            "FLEETWATCH_SESSION_SECONDS": "3",  # the time that a killed member holds its group up
            "FLEETWATCH_RETENTION_DAYS": "0",  # the tests' records may be of any time
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "fleetwatch.cli.main", "sink", self.name]
            self._process = children.start(command, log=log, env=self._environment)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text; (0, "") while nothing answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            assert self.process.poll() is None, self._log.read_text()[-5000:]
            return 0, ""

    def counter(self, name: str) -> int:
        code, text = self.get("/status")
        return int(json.loads(text)["counters"].get(name, 0)) if code else 0

    def is_ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def is_paused(self, because: str) -> bool:
        """Whether it says so everywhere: /readyz with the reason, and the metric."""
        code, text = self.get("/readyz")
        return code == 503 and because in text and "fleetwatch_sink_paused 1.0" in self.get("/metrics")[1]
