"""The lanes on an asyncio loop in a thread of its own: neither Kafka nor a channel holds the other up."""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Sequence
    from types import TracebackType

    from alerting.lane import Lane, Report
    from alerting.ports import Reply, Waiting


class Delivery:
    """Hands changes to every lane and gathers their reports; a context manager around the consumer's loop.

    ``make_lanes`` gets the function that takes reports. ``close`` is awaited on the loop at the end.
    """

    def __init__(
        self,
        make_lanes: Callable[[Callable[[Report], None]], Sequence[Lane]],
        close: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._lanes = tuple(make_lanes(self._reports.put))
        self._close = close
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="delivery", daemon=True)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def lanes(self) -> tuple[str, ...]:
        """The destinations."""
        return tuple(lane.notifier.lane for lane in self._lanes)

    def __enter__(self) -> Self:
        self._thread.start()
        self.call(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(0)

    def submit(self, change: Waiting, lanes: Collection[str] | None = None) -> None:
        """Let every lane, or those named, tell of a change; returns at once."""
        self._loop.call_soon_threadsafe(self._add, change, lanes)

    def reply(self, lane: str, reply: Reply) -> None:
        """Let one lane answer a person; returns at once. From any thread."""
        self._loop.call_soon_threadsafe(self._reply, lane, reply)

    def lanes_of(self, channel: str) -> tuple[str, ...]:
        """Return the destinations of one channel."""
        return tuple(lane.notifier.lane for lane in self._lanes if lane.notifier.channel == channel)

    def drop(self, partitions: Collection[int]) -> None:
        """Let every lane forget what was read from these partitions."""
        self.call(self._drop(partitions))

    def reports(self) -> list[Report]:
        """Return what the lanes have reported since last asked."""
        reports: list[Report] = []
        while True:
            try:
                reports.append(self._reports.get_nowait())
            except queue.Empty:
                return reports

    def waiting(self) -> dict[str, int]:
        """Return how many changes wait in each lane."""
        return {lane.notifier.lane: lane.waiting for lane in self._lanes}

    def call(self, coroutine: Coroutine[Any, Any, Any], timeout: float = 30.0) -> Any:
        """Run something on the loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)

    def stop(self, grace_seconds: float) -> None:
        """Let the lanes go on until nothing waits, at most for so long, then end. May be called twice."""
        if not self._thread.is_alive():
            return
        self.call(self._finish(grace_seconds), timeout=grace_seconds + 30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _add(self, change: Waiting, lanes: Collection[str] | None) -> None:
        for lane in self._lanes:
            if lanes is None or lane.notifier.lane in lanes:
                lane.add(change)

    def _reply(self, name: str, reply: Reply) -> None:
        for lane in self._lanes:
            if lane.notifier.lane == name:
                lane.reply(reply)

    async def _start(self) -> None:
        self._tasks = [asyncio.create_task(lane.run(), name=lane.notifier.lane) for lane in self._lanes]

    async def _drop(self, partitions: Collection[int]) -> None:
        for lane in self._lanes:
            lane.drop(partitions)

    async def _finish(self, grace_seconds: float) -> None:
        end = self._loop.time() + grace_seconds
        while any(lane.waiting for lane in self._lanes) and self._loop.time() < end:  # noqa: ASYNC110  # once, at the end
            await asyncio.sleep(0.02)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._close is not None:
            await self._close()
        await self._loop.shutdown_default_executor()
