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
    from collections.abc import Iterator, Mapping, Sequence
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


def environment(settings: Settings, **variables: str) -> dict[str, str]:
    """Return this process' environment with the broker of some settings; ``variables`` without their prefix."""
    return os.environ | {
        "FLEETWATCH_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "FLEETWATCH_EMBEDDED_BROKER": str(settings.embedded_broker).lower(),
        "FLEETWATCH_MODELS_DIR": str(settings.models_dir),
        **{f"FLEETWATCH_{name}": value for name, value in variables.items()},
    }


@contextlib.contextmanager
def running(
    commands: Mapping[str, Sequence[str]], environments: Mapping[str, Mapping[str, str]], folder: Path
) -> Iterator[dict[str, Process]]:
    """Start commands (name -> arguments of ``fleetwatch``) at the same time; end them at the end.

    Each listens for health on FLEETWATCH_HTTP_PORT of its environment, or on a free port; logs go to the folder.
    """
    started: dict[str, Process] = {}
    try:
        for name, arguments in commands.items():
            log = folder / f"{name}.log"
            port = environments[name].get("FLEETWATCH_HTTP_PORT") or str(free_port())
            with log.open("wb") as lines:
                popen = children.start(
                    [sys.executable, "-m", "fleetwatch.cli.main", *arguments],
                    log=lines.fileno(),
                    env={**environments[name], "FLEETWATCH_HTTP_PORT": port},
                )
            started[name] = Process(name, int(port), popen, log)
        yield started
    finally:
        for process in started.values():
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGTERM)
        for process in started.values():
            children.stop(process.popen, by=signal.SIGTERM, timeout=10)
