"""Starting and stopping operating system processes so that none is left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import IO

_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Return what a child runs between fork and exec: let the kernel signal it when our *thread* ends.

    So start children from the main thread only. None where the kernel has no such thing.
    """
    if _libc is None:
        return None
    prctl, parent, signal_number = _libc.prctl, os.getpid(), int(number)

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, signal_number)
        if os.getppid() != parent:  # it ended before the call above
            os._exit(1)

    return in_child


def start(  # noqa: PLR0913  # what a process is made of
    command: Sequence[str],
    *,
    log: int | IO[bytes],
    stdout: int | IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    on_parent_death: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start a child in a process group of its own (Ctrl-C does not reach it), bound to this process' life."""
    return subprocess.Popen(  # noqa: S603  # commands are our own, no shell
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=log if stdout is None else stdout,
        stderr=log,
        env=None if env is None else dict(env),
        cwd=cwd,
        start_new_session=True,
        preexec_fn=die_with_parent(on_parent_death),  # noqa: PLW1509  # two system calls, no lock taken
    )


def stop(process: subprocess.Popen[bytes], *, by: signal.Signals, timeout: float) -> int:
    """Ask a child to end, wait, then kill its whole group; return its exit code."""
    if process.poll() is None:
        process.send_signal(by)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            kill_group(process)
    return process.wait()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a child and what it started (its group), at once."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
