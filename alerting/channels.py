"""Which channels there are, made from the settings."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final, TextIO

from alerting import wording
from alerting.console import ConsoleNotifier
from alerting.lane import Lane, SystemClock
from alerting.pacing import Limit, Pacer
from fleetwatch.errors import EnvironmentProblemError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from alerting.lane import Report
    from alerting.outbox_store import DatabaseOutbox
    from alerting.ports import Notifier
    from alerting.telegram import TelegramClient
    from fleetwatch.settings import Settings

OVERALL: Final = Limit(30, 1.0)
CHAT: Final = Limit(1, 1.0)
GROUP_CHAT: Final = Limit(20, 60.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Channels:
    """All notifiers, and the Telegram client behind some of them, which its owner checks and closes."""

    notifiers: tuple[Notifier, ...]
    telegram: TelegramClient | None = None
    outbox: DatabaseOutbox | None = None

    def make_lanes(self, report: Callable[[Report], None]) -> Sequence[Lane]:
        """Return a lane for each notifier."""
        clock, random, shared = SystemClock(), Random(), Pacer(OVERALL)  # noqa: S311  # jitter, no secret
        return [
            Lane(
                notifier,
                report,
                pacer=Pacer(*limits_of(notifier.lane)),
                shared=shared if notifier.channel == "telegram" else Pacer(),
                clock=clock,
                random=random,
                outbox=self.outbox if notifier.channel == "telegram" else None,
            )
            for notifier in self.notifiers
        ]

    async def close(self) -> None:
        """Close what is open."""
        if self.telegram is not None:
            await self.telegram.close()
        if self.outbox is not None:
            await self.outbox.close()


def limits_of(lane: str) -> tuple[Limit, ...]:
    """Return how fast one destination takes notices: Telegram's limits; group chats have negative ids."""
    channel, _, chat = lane.partition(":")
    if channel != "telegram":
        return ()
    return (CHAT, GROUP_CHAT) if chat.startswith("-") else (CHAT,)


def open_channels(settings: Settings, *, stream: TextIO | None = None, as_json: bool = False) -> Channels:
    """Make the console, and a Telegram notifier for each chat when a token is set. Connects to nothing.

    Raises:
        EnvironmentProblemError: a token without chats, or not a token.

    """
    console = ConsoleNotifier(stream or sys.stdout, as_json=as_json)
    if settings.telegram_token is None:
        return Channels(notifiers=(console,))
    if not settings.telegram_chat_ids:
        raise EnvironmentProblemError(
            "FLEETWATCH_TELEGRAM_TOKEN is set without chats: set FLEETWATCH_TELEGRAM_CHAT_IDS to [1234567]"
        )
    from alerting.outbox_store import DatabaseOutbox  # noqa: PLC0415  # seldom used, as the next
    from alerting.telegram import TelegramClient, TelegramNotifier  # noqa: PLC0415  # half a second, seldom used

    say = wording.catalog(settings.language)
    client = TelegramClient(settings.telegram_token, settings.telegram_api_url)
    chats = dict.fromkeys(settings.telegram_chat_ids)
    return Channels(
        notifiers=(console, *(TelegramNotifier(client, chat_id, say) for chat_id in chats)),
        telegram=client,
        outbox=DatabaseOutbox(settings.database_url),
    )
