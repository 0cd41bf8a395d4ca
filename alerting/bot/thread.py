"""The bot in a thread with a loop of its own: while it waits for people, alerts go out, and the other way round."""

from __future__ import annotations

import asyncio
import threading
from random import Random
from typing import TYPE_CHECKING

from alerting import wording
from alerting.actions import ActionPublisher
from alerting.bot.access import AllowList
from alerting.bot.handler import Handler
from alerting.bot.poller import Poller
from alerting.fleet_reads import FleetReads
from alerting.telegram import TelegramClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from alerting.muting import Standing
    from alerting.ports import Reply
    from fleetwatch.records import Alert
    from fleetwatch.settings import Settings


class BotThread:
    """Started once, stopped once. ``reply``, ``standing``, ``recent`` and ``count`` are called from its thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        reply: Callable[[str, Reply], None],
        standing: Callable[[], Standing],
        recent: Callable[[str], Alert | None],
        count: Callable[[str], None],
    ) -> None:
        assert settings.telegram_token is not None
        say = wording.catalog(settings.language)
        self._reads = FleetReads(settings)
        self._publisher = ActionPublisher(settings)
        self._poller = Poller(
            TelegramClient(settings.telegram_token, settings.telegram_api_url),
            Handler(self._reads, self._publisher.publish, standing, recent, say),
            AllowList(frozenset(settings.telegram_chat_ids), frozenset(settings.telegram_user_ids)),
            reply,
            say,
            count=count,
            random=Random(),  # noqa: S311  # jitter, no secret
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._work, name="bot", daemon=True)

    @property
    def trouble(self) -> str:
        """What keeps the bot from hearing people; empty when nothing does."""
        return self._poller.trouble

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()
        self._started.wait()

    def stop(self, timeout: float) -> None:
        """End; a command under way is finished if that takes no longer than ``timeout`` seconds."""
        if self._loop is not None and self._task is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(timeout)
        if not self._thread.is_alive():
            self._publisher.close()
            self._reads.close()

    def _work(self) -> None:
        async def main() -> None:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            self._started.set()
            await self._poller.run()

        try:
            asyncio.run(main())
        except asyncio.CancelledError:
            pass
        finally:
            self._started.set()
