from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.local import preflight
from fleetwatch.local.folders import last_line, make_folder, password_in

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("version", [(2, 7), (3, 9), (3, 10, 14)])
def test_an_old_python_is_named(version: tuple[int, ...]) -> None:
    with pytest.raises(EnvironmentProblemError, match=rf"Python {version[0]}\.{version[1]} is too old.*3\.11"):
        preflight.check_python(version)


@pytest.mark.parametrize("version", [(3, 11), (3, 12, 1), (3, 14)])
def test_newer_pythons_pass(version: tuple[int, ...]) -> None:
    preflight.check_python(version)


def statvfs(free_mb: int) -> os.statvfs_result:
    blocks = free_mb * 1_000_000 // 4000
    return os.statvfs_result((4096, 4000, 10**9, 10**9, blocks, 0, 0, 0, 0, 255))


def test_a_full_disk_is_named_with_what_is_free(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblemError, match=r"only 499 MB are free.*--state-dir"):
        preflight.check_disk(tmp_path, lambda _: statvfs(499))
    preflight.check_disk(tmp_path, lambda _: statvfs(500))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblemError, match=r"cannot write in .*file/state"):
        make_folder(tmp_path / "file" / "state")


def test_the_lock_names_who_holds_it_and_ends_with_its_process(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            (
                "import sys, pathlib\nfrom fleetwatch.local.preflight import locked\n"
                f"with locked(pathlib.Path({str(tmp_path)!r})):\n    print('held', flush=True)\n    sys.stdin.read()"
            ),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(EnvironmentProblemError, match=rf"process {holder.pid}\b"), preflight.locked(tmp_path):
            pass
        holder.kill()
    with preflight.locked(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1:9092", ("127.0.0.1", 9092)), ("[::1]:9092", ("::1", 9092)), (" kafka:1 ", ("kafka", 1))],
)
def test_addresses_of_a_broker(address: str, expected: tuple[str, int]) -> None:
    assert preflight.split_address(address) == expected


@pytest.mark.parametrize("address", ["", "kafka1", "host:", ":9092", "host:0", "host:70000", "host:x"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(EnvironmentProblemError, match="expected `embedded`, `kafka`, or an address"):
        preflight.split_address(address)


def test_a_time_without_producers_is_refused() -> None:
    preflight.check_scenario_length(60, producers=True)
    preflight.check_scenario_length(None, producers=False)
    with pytest.raises(EnvironmentProblemError, match="--no-producers"):
        preflight.check_scenario_length(60, producers=False)


def test_a_password_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    first = password_in(tmp_path / "password")
    assert password_in(tmp_path / "password") == first
    assert len(first) >= 24
    assert (tmp_path / "password").stat().st_mode & 0o077 == 0


def test_an_empty_password_file_left_by_a_crash_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "password").touch()
    assert password_in(tmp_path / "password")


def test_the_last_telling_line_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_line(log) == ""
    log.write_text("LOG: up\nFATAL: no space\nLOG: down\n\n")
    assert last_line(log) == "LOG: down"
    assert last_line(log, containing=("FATAL",)) == "FATAL: no space"
    assert last_line(log, containing=("PANIC",)) == "LOG: down"
