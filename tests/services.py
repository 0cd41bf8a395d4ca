"""Real services for the tests: what each is made from, how it is started, and what if it cannot be had.

``unavailable`` decides between skipping (at a desk) and failing (with CI=true). Nothing outlives the test
run, apart from the cache folder that keeps what takes long to make (see docs/contributing.md).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self
from urllib.parse import urlsplit

import psycopg
import pytest

from fleetwatch.local import children
from fleetwatch.local.kafka_jars import cache_dir
from fleetwatch.local.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEBIAN_SUITE = "trixie"
POSTGRES_BIN = "/usr/lib/postgresql/17/bin"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def unavailable(reason: str) -> NoReturn:
    """Skip the test at a desk; fail it where all services must be there (CI=true)."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"a service that CI must have is missing: {reason}", pytrace=False)
    pytest.skip(reason)


def wait_until(is_true: Callable[[], bool], *, what: str, timeout: float = 20.0) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it did not become true in time.

    """
    deadline = time.monotonic() + timeout
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {timeout:.0f} s")
        time.sleep(0.05)


@dataclass(frozen=True)
class Broker:
    """A running broker: its address, and whether it is librdkafka's mock cluster."""

    bootstrap_servers: str
    embedded: bool


# --- PostgreSQL and TimescaleDB


@contextlib.contextmanager
def fresh_database(
    server_url: str, *, extension: str = "", tablespace: str = "pg_default", encoding: str = "UTF8"
) -> Iterator[str]:
    """Make an empty database on a server, give its URL, drop it afterwards."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    url = urlsplit(server_url)._replace(path=f"/{name}").geturl()
    with psycopg.connect(server_url, autocommit=True) as admin:
        how = f"TABLESPACE {tablespace} TEMPLATE template0 ENCODING '{encoding}'"
        admin.execute(f'CREATE DATABASE "{name}" {how}'.encode())
    try:
        if extension:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f'CREATE EXTENSION IF NOT EXISTS "{extension}"')
        yield url
    finally:
        with psycopg.connect(server_url, autocommit=True) as admin:
            admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


class TimescaleServer:
    """TimescaleDB from Debian's packages in a chroot: one server per test run, on a free loopback port.

    The chroot is made once (about 40 s) and kept in the cache folder; each run has its own data folder in it.
    """

    def __init__(self, cache: Path, *, small_disk_mb: int = 0, **options: str) -> None:
        """``options`` are settings of the server, beside those that every test wants.

        With ``small_disk_mb`` there is a tablespace ``small`` on a disk of that size, which can be filled.
        """
        self._cache = cache
        self._options = options
        self._small_disk_mb = small_disk_mb
        self._server: list[str] = []
        self._disk_holder: subprocess.Popen[bytes] | None = None
        self._disk = Path()
        self.root = cache / f"timescaledb-{DEBIAN_SUITE}"
        self.run = f"/var/tmp/fleetwatch-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.port = 0

    def make_ready(self) -> None:
        """Make the chroot if there is none yet; ``python -m tests.services`` does it ahead of the tests."""
        if os.geteuid() != 0:
            unavailable("TimescaleDB runs in a chroot: only root can make one")
        self._cache.mkdir(parents=True, exist_ok=True)
        with _locked(self._cache / "timescaledb.lock"):
            if not (self.root / POSTGRES_BIN.lstrip("/") / "postgres").is_file():
                self._make_root()
            self._remove_stale_runs()

    def __enter__(self) -> Self:
        self.make_ready()
        try:
            self._initialise()
            self.start()
            if self._small_disk_mb:
                self._make_small_tablespace()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def stop(self, *, by: signal.Signals = signal.SIGINT) -> None:
        """Stop the server and keep its data: SIGINT cuts the connections, SIGQUIT is a crash of the server."""
        if self._process is not None:
            children.stop(self._process, by=by, timeout=10)

    def fill_disk(self) -> None:
        """Take all the room that is left on the small disk."""
        with (self._disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 20))

    def empty_disk(self) -> None:
        """Give the room back."""
        (self._disk / "filler").unlink()

    def _make_root(self) -> None:
        debootstrap = shutil.which("debootstrap") or shutil.which("debootstrap", path="/usr/sbin:/sbin")
        if debootstrap is None:
            unavailable("TimescaleDB needs debootstrap: apt-get install debootstrap")
        partial = self.root.with_suffix(".partial")
        _unmount_below(partial)
        shutil.rmtree(partial, ignore_errors=True)
        packages = "postgresql-17,postgresql-17-timescaledb"
        result = subprocess.run(
            [
                debootstrap,
                "--variant=minbase",
                f"--include={packages}",
                DEBIAN_SUITE,
                str(partial),
                debian_mirror(),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        _unmount_below(partial)
        if result.returncode != 0:
            unavailable(f"debootstrap failed: {' / '.join(result.stdout.splitlines()[-3:])}")
        shutil.rmtree(partial / "var/cache/apt", ignore_errors=True)  # the packages: 130 MB
        shutil.rmtree(self.root, ignore_errors=True)
        partial.rename(self.root)

    def _remove_stale_runs(self) -> None:
        """Remove what a killed run left; its server ended with it, or is ended here."""
        for run in (self.root / "var/tmp").glob("fleetwatch-*-*"):
            owner = int(run.name.split("-")[1])
            if Path(f"/proc/{owner}").exists():
                continue
            pid_file = run / "data/postmaster.pid"
            if pid_file.exists():
                pid = int(pid_file.read_text().split()[0])
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{pid}/root").readlink() == self.root.resolve():
                        os.kill(pid, signal.SIGQUIT)
                        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), what="stale server ends")
            shutil.rmtree(run, ignore_errors=True)

    def _inside(self, *command: str) -> list[str]:
        return ["chroot", "--userspec=postgres:postgres", str(self.root), *command]

    def _initialise(self) -> None:
        run = self.root / self.run.lstrip("/")
        run.mkdir(mode=0o700)
        passwd = (self.root / "etc/passwd").read_text().splitlines()
        entry = next(line for line in passwd if line.startswith("postgres:")).split(":")
        os.chown(run, int(entry[2]), int(entry[3]))
        port = free_port()
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": self.run,
            "shared_preload_libraries": "timescaledb",
            "dynamic_shared_memory_type": "mmap",  # a minimal chroot has no /dev/shm of its own
            "timescaledb.telemetry_level": "off",
            "timezone": "UTC",
            "fsync": "off",  # the data is thrown away
            "max_connections": "60",
            "max_worker_processes": "32",
        } | self._options
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        data = f"{self.run}/data"
        # fmt: off
        init_options = (
            "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "--locale=C.UTF-8", "--encoding=UTF8",
            "-c", "dynamic_shared_memory_type=mmap",
        )
        # fmt: on
        subprocess.run(
            self._inside(f"{POSTGRES_BIN}/initdb", *init_options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=120,
            check=True,
        )
        # setpriv: the kernel forgets the signal at a parent's death when the user changes, so it is set inside
        self._server = self._inside("setpriv", "--pdeathsig", "INT", f"{POSTGRES_BIN}/postgres", "-D", data, *settings)
        self.port = port
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        if self._small_disk_mb:
            self._mount_small_disk(run / "small", f"size={self._small_disk_mb}m,uid={entry[2]},gid={entry[3]},mode=700")

    def _mount_small_disk(self, folder: Path, options: str) -> None:
        """Mount it in a namespace that a process of ours holds: it goes away with that process, however it ends."""
        folder.mkdir()
        outside = folder.stat().st_dev
        script = f'mount -t tmpfs -o {options} tmpfs "{folder}" && exec sleep infinity'
        self._disk_holder = children.start(["unshare", "--mount", "sh", "-c", script], log=subprocess.DEVNULL)
        self._disk = Path(f"/proc/{self._disk_holder.pid}/root{folder}")
        wait_until(lambda: self._disk.stat().st_dev != outside, what="mounting a small disk")
        self._server = ["nsenter", f"--mount=/proc/{self._disk_holder.pid}/ns/mnt", *self._server]

    def start(self) -> None:
        """Start the server on its data and wait until it answers."""
        run = self.root / self.run.lstrip("/")
        with (run / "log").open("ab") as log:
            self._process = children.start(self._server, log=log)
        try:
            wait_until(self._answers, what="TimescaleDB answering", timeout=30)
        except (TimeoutError, ChildProcessError) as error:
            raise RuntimeError(f"{error}; its log: {(run / 'log').read_text()[-1500:]}") from None

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise ChildProcessError(f"the server ended with {self._process.returncode}")
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _make_small_tablespace(self) -> None:
        space = self._disk / "space"
        space.mkdir(mode=0o700)
        os.chown(space, self._disk.stat().st_uid, self._disk.stat().st_gid)
        with psycopg.connect(self.url, autocommit=True) as admin:
            admin.execute(f"CREATE TABLESPACE small LOCATION '{self.run}/small/space'".encode())

    def _remove(self) -> None:
        self.stop()
        if self._disk_holder is not None:
            children.stop(self._disk_holder, by=signal.SIGKILL, timeout=5)
        shutil.rmtree(self.root / self.run.lstrip("/"), ignore_errors=True)


def debian_mirror() -> str:
    """Return the Debian mirror that this machine's apt uses (or TEST_DEBIAN_MIRROR)."""
    if mirror := os.environ.get("TEST_DEBIAN_MIRROR"):
        return mirror
    if shutil.which("apt-get") is None or "ID=debian" not in Path("/etc/os-release").read_text().splitlines():
        unavailable("TimescaleDB comes from Debian packages: set TEST_DEBIAN_MIRROR to a Debian mirror's URL")
    listing = subprocess.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE) $(COMPONENT)",
            "Created-By: Packages",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    ).stdout
    for line in listing.splitlines():
        uri, release, component = [*line.split(), "", "", ""][:3]
        is_main_archive = component == "main" and release.isalpha()  # not trixie-security, trixie-updates
        if is_main_archive and uri.startswith(("http://", "https://", "file:")):
            return uri.rstrip("/")
    unavailable("apt has no Debian main archive configured: set TEST_DEBIAN_MIRROR to a Debian mirror's URL")


def _unmount_below(folder: Path) -> None:
    """Unmount what a killed debootstrap left mounted, so that deleting the folder touches nothing else."""
    prefix = f"{folder}/"
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((mount for mount in mounts if mount.startswith(prefix)), reverse=True):
        subprocess.run(["umount", mount], check=True, timeout=30)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock among processes; it ends with the process."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


# --- Redis


class RedisServer:
    """A Redis server of the machine on a free loopback port, nothing kept on disk."""

    def __init__(self, binary: str, folder: Path) -> None:
        self._command = [
            binary,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            str(folder),
        ]
        self._log = folder / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        port = free_port()
        with self._log.open("wb") as log:
            command = [*self._command, "--port", str(port)]
            self._process = children.start(command, log=log, on_parent_death=signal.SIGTERM)
        self.url = f"redis://127.0.0.1:{port}/0"
        wait_until(lambda: _accepts(port), what="Redis listening")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        children.stop(self._process, by=signal.SIGTERM, timeout=10)


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


# --- Programs


def find_program(name: str, *, package: str) -> str:
    """Return the path of a program of the machine; ``package`` is the Debian package that has it."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path is None:
        unavailable(f"{name} is not installed: apt-get install {package}")
    return path


def find_chromium() -> str:
    """Return the path of a Chromium or Chrome of the machine."""
    for name in CHROMIUM_NAMES:
        if path := shutil.which(name):
            return path
    unavailable("no browser found: apt-get install chromium")


if __name__ == "__main__":
    try:
        TimescaleServer(cache_dir()).make_ready()
    except (pytest.skip.Exception, pytest.fail.Exception) as reason:
        sys.exit(f"tests on TimescaleDB will not run: {reason}")
