"""``fleetwatch worker`` in a process that kills itself (SIGKILL) when it comes to a named point for the n-th time.

The process is forked from a server that has imported everything (``preload``), so that it is there at once. It runs
what users run; the points are put in from outside, around methods of the worker, its outbox and its consumer.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleetwatch import topics

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import ForkServerProcess
    from pathlib import Path

    Hook = Callable[..., object]

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Death:
    """Where a worker kills itself, and which time that it comes there."""

    point: str
    nth: int = 1


def fork(environment: dict[str, str], log: Path, death: Death | None = None, poison: str = "") -> ForkServerProcess:
    """Start a worker; records of devices whose names begin with ``poison`` make its fold raise."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.preload"])
    process = context.Process(target=_run, args=(environment, str(log), death, poison))
    process.start()
    return process


def _run(environment: dict[str, str], log: str, death: Death | None, poison: str) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # end with the server, as it ends with the tests
    os.environ.update(environment)
    with open(log, "ab") as file:  # noqa: PTH123
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if poison:
        _raise_for(poison.encode())
    if death is not None:
        POINTS[death.point](_Countdown(death.nth))
    sys.argv = ["fleetwatch", "worker"]
    from fleetwatch.cli.main import main

    main()


class _Countdown:
    def __init__(self, left: int) -> None:
        self._left = left

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


# --- The points


def _before(owner: type, name: str, hook: Hook) -> None:
    """Call ``hook`` with a method's arguments (without self) before it runs."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        hook(*args)
        return original(self, *args, **kwargs)

    setattr(owner, name, method)


def _after(owner: type, name: str, hook: Hook) -> None:
    """Call ``hook`` with what a method returned and its arguments when it is done."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        hook(result, *args)
        return result

    @functools.wraps(original)
    async def coroutine(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = await original(self, *args, **kwargs)
        hook(result, *args)
        return result

    setattr(owner, name, coroutine if inspect.iscoroutinefunction(original) else method)


def _lane_loaded(count: _Countdown) -> None:
    from streams.worker import Worker

    _after(Worker, "_restore", lambda *_: count())


def _batch_folded(count: _Countdown) -> None:
    from streams.worker import Worker

    _after(Worker, "_fold", lambda *_: count())


def _cut(count: _Countdown) -> None:
    from streams.worker import Worker

    _after(Worker, "_cut", lambda *_: count())


def _is_manifest(part: Any) -> bool:
    from streams.worker import _Cut

    return part is _Cut.manifest_to_write


def _outputs_delivered(count: _Countdown) -> None:
    from streams.worker import Worker

    _before(Worker, "_write", lambda cuts, part: count() if cuts and not _is_manifest(part) else None)


def _record_written(count: _Countdown) -> None:
    """Between two records of the changelog: each is a batch of its own."""
    from aiokafka import AIOKafkaProducer

    from streams import outbox

    whole = outbox.BATCH_BYTES

    def sending(blocks: Any, _: int) -> None:
        outbox.BATCH_BYTES = 1 if any(block.topic == topics.STATE for block in blocks) else whole

    def written(future: Any, _batch: Any, topic: str) -> None:
        if topic == topics.STATE:
            future.add_done_callback(lambda _: count())

    _before(outbox.Outbox, "send", sending)
    _after(AIOKafkaProducer, "send_batch", written)


def _blocks_delivered(count: _Countdown) -> None:
    from streams.worker import Worker

    _before(Worker, "_write", lambda cuts, part: count() if cuts and _is_manifest(part) else None)


def _manifests_delivered(count: _Countdown) -> None:
    from streams.worker import Worker

    _after(Worker, "_write", lambda result, _, part: count() if result[0] and _is_manifest(part) else None)


def _clock_caused_written(count: _Countdown) -> None:
    """Manifests stand that hold what the clock caused; it was not sent yet."""
    from streams.worker import Worker

    _after(Worker, "_write", lambda result, _, part: count() if _is_manifest(part) and _any_by_clock(result[0]) else 0)


def _clock_caused_delivered(count: _Countdown) -> None:
    from streams.outbox import Outbox
    from streams.worker import Worker

    is_next = False

    def written(result: Any, _: Any, part: Any) -> None:
        nonlocal is_next
        is_next = _is_manifest(part) and _any_by_clock(result[0])

    def flushed(*_: Any) -> None:
        nonlocal is_next
        if is_next:
            is_next = False
            count()

    _after(Worker, "_write", written)
    _after(Outbox, "flush", flushed)


def _any_by_clock(cuts: list[Any]) -> bool:
    return any(cut.by_clock for cut in cuts)


def _acknowledged(count: _Countdown) -> None:
    from streams.worker import Worker

    _before(Worker, "_remove_stale", lambda cuts: count() if any(cut.events for cut in cuts) else None)


def _committed(count: _Countdown) -> None:
    from streams.transport import BatchConsumer

    _after(BatchConsumer, "_commit", lambda is_done, *_: count() if is_done else None)


def _stale_keys_removed(count: _Countdown) -> None:
    """The first checkpoint of a new owner; the second one finds nothing any more."""
    from streams import state
    from streams.outbox import Outbox

    is_next = False

    def removing(*_: Any) -> None:
        nonlocal is_next
        is_next = True

    def flushed(*_: Any) -> None:
        if is_next:
            count()

    original = state.tombstones

    def tombstones(keys: Any) -> Any:
        removing()
        return original(keys)

    state.tombstones = tombstones
    _after(Outbox, "flush", flushed)


def _revoking(count: _Countdown) -> None:
    from streams.worker import Worker

    _before(Worker, "revoke", lambda lanes: count() if lanes else None)


def _revoked(count: _Countdown) -> None:
    from streams.worker import Worker

    _after(Worker, "revoke", lambda _, lanes: count() if lanes else None)


ALONE: dict[str, Callable[[_Countdown], None]] = {
    "lane-loaded": _lane_loaded,
    "batch-folded": _batch_folded,
    "cut": _cut,
    "outputs-delivered": _outputs_delivered,
    "record-written": _record_written,
    "blocks-delivered": _blocks_delivered,
    "manifests-delivered": _manifests_delivered,
    "clock-caused-written": _clock_caused_written,
    "clock-caused-delivered": _clock_caused_delivered,
    "acknowledged": _acknowledged,
    "committed": _committed,
    "stale-keys-removed": _stale_keys_removed,
}
"""Points that a single worker comes to."""
IN_REBALANCE: dict[str, Callable[[_Countdown], None]] = {"revoking": _revoking, "revoked": _revoked}
"""Points that a worker comes to when another one joins."""
POINTS = ALONE | IN_REBALANCE


# --- A fold that raises


def _raise_for(poison: bytes) -> None:
    from streams.lane import Lane

    def process(self: Lane, raw: Any, models: Any) -> Any:
        keys = raw.since(self.next_offset).keys.to_list()
        outputs = original(self, raw, models)
        if any(key is not None and key.startswith(poison) for key in keys):
            raise ArithmeticError("poison")  # when the lane has changed already: the worst moment
        return outputs

    original = Lane.process
    Lane.process = process
