"""``fleetwatch up`` as a process of its own, and what must be true after it has ended."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

SCENARIO = Path(__file__).with_name("scenario.yaml")


def up_command(state_dir: Path, *arguments: str) -> list[str]:
    common = ["--state-dir", str(state_dir), *(() if "--gateway-port" in arguments else ("--gateway-port", "0"))]
    return [sys.executable, "-m", "fleetwatch.cli.main", "up", *common, *arguments]


class Up:
    """A running ``fleetwatch up``; leaves nothing behind, whatever the test did."""

    def __init__(self, state_dir: Path, *arguments: str) -> None:
        self.state_dir = state_dir
        self.lines: list[str] = []
        self._command = up_command(state_dir, *arguments)
        self._queue: queue.Queue[str | None] = queue.Queue()

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._threads = [
            threading.Thread(target=self._read_stdout, daemon=True),
            threading.Thread(target=self._read_stderr, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pid in processes_of(self.state_dir):
            os.kill(pid, signal.SIGKILL)
        for thread in self._threads:
            thread.join()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()

    def _read_stdout(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._queue.put(line)
        self._queue.put(None)

    def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        self.stderr = self.process.stderr.read()

    def wait_for_line(self, text: str, *, timeout: float = 60.0) -> None:
        """Wait until a line with this text is printed."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self._queue.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"{text!r} was not printed in {timeout:.0f} s; {self.report()}"
            if text in line:
                return

    def wait(self, *, timeout: float) -> int:
        """Wait for the end; return the exit code."""
        try:
            exit_code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end in {timeout:.0f} s; {self.report()}") from None
        for thread in self._threads:
            thread.join(10)
        return exit_code

    def report(self) -> str:
        """Return everything printed, and the ends of the logs."""
        logs = sorted((self.state_dir / "logs").glob("*.log"))
        ends = [f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs]
        return "\n".join(["stdout:", *self.lines, "stderr:", getattr(self, "stderr", ""), *ends])

    def summary(self) -> dict[str, Any]:
        """Return the object on the last line."""
        last: dict[str, Any] = json.loads(self.lines[-1])
        return last


def processes_of(state_dir: Path) -> list[int]:
    """Return processes that were started for this state directory and still run."""
    mark = os.fsencode(state_dir)
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            texts = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            texts += os.fsencode((entry / "cwd").readlink())  # Redis writes its title over the other two
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if mark in texts and state not in "ZX":
            found.append(int(entry.name))
    return found


def wait_until_gone(state_dir: Path, *, timeout: float = 10.0) -> None:
    """Wait until no process of a state directory runs."""
    deadline = time.monotonic() + timeout
    while left := processes_of(state_dir):
        assert time.monotonic() < deadline, [
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ") for pid in left
        ]
        time.sleep(0.1)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
