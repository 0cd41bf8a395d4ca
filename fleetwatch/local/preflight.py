"""What must hold before ``fleetwatch up`` starts anything; each check says what is wrong and what to do.

Works on older Pythons too, so that it can say that they are too old.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys
from typing import TYPE_CHECKING

from fleetwatch.errors import EnvironmentProblemError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OLDEST_PYTHON = (3, 11)
LEAST_FREE_MB = 500


def check_python(version: tuple[int, ...] = sys.version_info[:2]) -> None:
    """Check that this Python is new enough."""
    if version[:2] < OLDEST_PYTHON:
        raise EnvironmentProblemError(
            f"Python {version[0]}.{version[1]} is too old: "
            f"install {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer, remove .venv and run `make setup`"
        )


def check_disk(folder: Path, statvfs: Callable[[Path], os.statvfs_result] = os.statvfs) -> None:
    """Check that an existing folder's file system has room for a run."""
    found = statvfs(folder)
    free_mb = found.f_bavail * found.f_frsize // 1_000_000
    if free_mb < LEAST_FREE_MB:
        raise EnvironmentProblemError(
            f"only {free_mb} MB are free in {folder}, {LEAST_FREE_MB} MB are needed: "
            "make room, or choose another --state-dir"
        )


def check_scenario_length(for_seconds: float | None, *, producers: bool) -> None:
    """Check that --for has something to stop."""
    if for_seconds is not None and not producers:
        raise EnvironmentProblemError("--for needs producers: leave out --no-producers, or stop with Ctrl-C")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process, until the block or the process ends, even by kill -9."""
    path = folder / "lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise EnvironmentProblemError(
                f"another `fleetwatch up` (process {file.read().strip() or 'unknown'}) uses {folder}: "
                "stop it, or choose another --state-dir"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def check_address(bootstrap_servers: str, *, timeout: float = 3.0) -> None:
    """Check that something listens at one of the addresses of a broker."""
    problem = ""
    for address in bootstrap_servers.split(","):
        host, port = split_address(address)
        try:
            socket.create_connection((host, port), timeout=timeout).close()
        except OSError as error:
            problem = problem or (error.strerror or str(error) or "no answer")
        else:
            return
    raise EnvironmentProblemError(
        f"no Kafka broker answers at {bootstrap_servers} ({problem}): start it, or leave out --broker"
    )


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``."""
    host, _, port = address.strip().rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise EnvironmentProblemError(
            f"--broker {address}: expected `embedded`, `kafka`, or an address such as 127.0.0.1:9092"
        )
    return host.strip("[]"), int(port)
