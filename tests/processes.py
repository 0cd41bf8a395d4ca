"""Processes of fleetwatch for the tests: started as a user starts them, asked over HTTP, ended without a trace."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleetwatch.local import children
from fleetwatch.local.ports import free_port
from tests.services import wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from fleetwatch.settings import Settings


@dataclass
class Process:
    """One running command; ``port`` is that of its health server."""

    name: str
    port: int
    popen: subprocess.Popen[bytes]
    log: Path

    def get(self, path: str) -> tuple[int, str]:
        """Ask its health server; status 0 when nothing answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait_until_ready(self, *, timeout: float = 60) -> None:
        """Wait for /readyz; a process that ended before is told with its log."""
        wait_until(
            lambda: self.popen.poll() is not None or self.get("/readyz")[0] == 200,
            what=f"{self.name} being ready",
            timeout=timeout,
        )
        if self.popen.poll() is not None:
            raise ChildProcessError(self.log.read_text()[-3000:])


@contextlib.contextmanager
def running(
    commands: dict[str, list[str]], settings: Settings, folder: Path, **variables: str
) -> Iterator[dict[str, Process]]:
    """Start commands (name -> arguments of ``fleetwatch``) at the same time; end them at the end."""
    environment = os.environ | {
        "FLEETWATCH_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "FLEETWATCH_EMBEDDED_BROKER": str(settings.embedded_broker).lower(),
        "FLEETWATCH_MODELS_DIR": str(settings.models_dir),
        **{f"FLEETWATCH_{name}": value for name, value in variables.items()},
    }
    started: dict[str, Process] = {}
    try:
        for name, arguments in commands.items():
            port, log = free_port(), folder / f"{name}.log"
            with log.open("wb") as lines:
                popen = children.start(
                    [sys.executable, "-m", "fleetwatch.cli.main", *arguments],
                    log=lines.fileno(),
                    env=environment | {"FLEETWATCH_HTTP_PORT": str(port)},
                )
            started[name] = Process(name, port, popen, log)
        yield started
    finally:
        for process in started.values():
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGTERM)
        for process in started.values():
            children.stop(process.popen, by=signal.SIGTERM, timeout=10)
