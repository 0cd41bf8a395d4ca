"""The Telegram channel: one bot, one notifier a chat, over python-telegram-bot.

The token is part of every URL of the Bot API, and httpx logs URLs. So neither httpx nor python-telegram-bot
ever gets it: they see a stand-in, and the transport puts the token into the path as the request leaves.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

os.environ.setdefault("PTB_TIMEDELTA", "true")  # else a 429 raises its deprecation warning, not RetryAfter

import httpx  # after the variable above
from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup, LinkPreviewOptions, error
from telegram.constants import ParseMode
from telegram.request import HTTPXRequest

from alerting import render
from alerting.bot import answers, presses
from alerting.ports import (
    Delivered,
    Notice,
    RefusalReason,
    Refused,
    RetryAfter,
    RetryReason,
)
from fleetwatch.errors import EnvironmentProblemError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pydantic import SecretStr

    from alerting.ports import Buttons, Outcome, Reply, Waiting
    from fleetwatch.i18n import Texts

GROUP_ABOVE: Final = 3
TIMEOUT_SECONDS: Final = 10.0
TOKEN_RETRY: Final = timedelta(seconds=60)
_STAND_IN: Final = "token-not-shown"
_TOKEN: Final = re.compile(r"[0-9]+:[A-Za-z0-9_-]+")


class _TokenTransport(httpx.AsyncBaseTransport):
    """Sends what it gets with the stand-in in the path replaced by the token."""

    def __init__(self, inner: httpx.AsyncBaseTransport, token: SecretStr) -> None:
        self._inner = inner
        self._token = token

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.replace(_STAND_IN.encode(), self._token.get_secret_value().encode(), 1)
        return await self._inner.handle_async_request(
            httpx.Request(
                request.method,
                request.url.copy_with(raw_path=path),
                headers=request.headers,
                stream=request.stream,
                extensions=request.extensions,
            )
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


class TelegramClient:
    """One bot. ``check`` once at start, ``close`` at the end, both on the loop that sends."""

    def __init__(self, token: SecretStr, api_url: str) -> None:
        if not _TOKEN.fullmatch(token.get_secret_value()):
            raise EnvironmentProblemError(
                "FLEETWATCH_TELEGRAM_TOKEN is no bot token (such as 123456:ABC-DEF): correct or unset it"
            )
        self._token = token
        self._api_url = api_url.rstrip("/")
        self._requests = (self._request(), self._request())
        self.bot = Bot(
            _STAND_IN,
            base_url=f"{self._api_url}/bot",
            base_file_url=f"{self._api_url}/file/bot",
            get_updates_request=self._requests[0],
            request=self._requests[1],
        )

    async def check(self) -> str:
        """Return the bot's name, or nothing when the API does not answer now.

        Raises:
            EnvironmentProblemError: the API refuses the token.

        """
        try:
            return (await self.bot.get_me()).username or ""
        except error.InvalidToken:
            raise EnvironmentProblemError(
                f"{self._api_url} does not accept FLEETWATCH_TELEGRAM_TOKEN: take the one that BotFather gave"
            ) from None
        except error.TelegramError:
            return ""

    async def close(self) -> None:
        """Close the connections."""
        for request in self._requests:
            await request.shutdown()

    def hide_token(self, text: str) -> str:
        """Return the text without the token, whoever put it there."""
        return text.replace(self._token.get_secret_value(), _STAND_IN)

    def _request(self) -> HTTPXRequest:
        address = urlsplit(self._api_url)
        proxy = None if proxy_bypass(address.hostname or "") else getproxies().get(address.scheme)
        transport = _TokenTransport(httpx.AsyncHTTPTransport(proxy=proxy), self._token)
        return HTTPXRequest(
            connect_timeout=TIMEOUT_SECONDS,
            read_timeout=TIMEOUT_SECONDS,
            write_timeout=TIMEOUT_SECONDS,
            pool_timeout=TIMEOUT_SECONDS,
            httpx_kwargs={"transport": transport},
        )


class TelegramNotifier:
    """One chat of a bot."""

    channel = "telegram"
    group_above: int | None = GROUP_ABOVE

    def __init__(self, client: TelegramClient, chat_id: int, say: Texts) -> None:
        self._client = client
        self._chat_id = chat_id
        self._say = say
        self.lane = lane_of(chat_id)

    def compose(self, changes: Sequence[Waiting], now: datetime) -> Notice:  # noqa: D102  # the port says it
        first = changes[0]
        if first.status is not None:
            text = answers.summary_html(first.status, first.alert, now, self._say, is_repeat=first.is_repeat)
            return Notice(changes=(first,), text=text)
        if len(changes) > 1:
            text, taken = render.telegram_group_html(changes, now, self._say)
            if taken > 1:
                buttons = presses.group_buttons(first.alert, self._say)
                return Notice(changes=tuple(changes[:taken]), text=text, buttons=buttons)
        text = render.telegram_html(first.alert, now, self._say, is_repeat=first.is_repeat)
        return Notice(changes=(first,), text=text, buttons=presses.buttons_of(first.alert, self._say))

    async def send(self, notice: Notice) -> Outcome:  # noqa: D102
        return await self._send(notice.text, notice.buttons)

    async def speak(self, reply: Reply) -> Outcome:  # noqa: D102
        return await self._send(reply.text, reply.buttons)

    async def _send(self, text: str, buttons: Buttons) -> Outcome:
        try:
            message = await self._client.bot.send_message(
                chat_id=self._chat_id,
                text=text,
                parse_mode=ParseMode.HTML,
                link_preview_options=LinkPreviewOptions(is_disabled=True),
                reply_markup=keyboard(buttons),
            )
        except error.ChatMigrated as moved:
            self._chat_id = moved.new_chat_id
            detail = f"the group is now chat {moved.new_chat_id}: put it into FLEETWATCH_TELEGRAM_CHAT_IDS"
            return RetryAfter(reason=RetryReason.CHAT_MIGRATED, delay=timedelta(0), detail=detail)
        except error.TelegramError as problem:
            return outcome_of(problem, self._client.hide_token(problem.message))
        return Delivered(reference=str(message.message_id))


def lane_of(chat_id: int) -> str:
    """Return the name of a chat's lane."""
    return f"telegram:{chat_id}"


def keyboard(buttons: Buttons) -> InlineKeyboardMarkup | None:
    """Return the buttons as Telegram takes them."""
    if not buttons:
        return None
    return InlineKeyboardMarkup(
        [[InlineKeyboardButton(button.text, callback_data=button.press) for button in row] for row in buttons]
    )


_BAD_REQUESTS: Final = (
    ("chat not found", RefusalReason.CHAT_NOT_FOUND),
    ("message is too long", RefusalReason.TOO_LONG),
    ("can't parse entities", RefusalReason.BAD_MARKUP),
)


_NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


def outcome_of(problem: error.TelegramError, detail: str) -> RetryAfter | Refused:
    """Say whether a failed send may be tried again. The table is docs/alerting.md's.

    The Bot API tells one bad request from another by its text alone; an unknown text is BAD_REQUEST.
    """
    match problem:
        case error.RetryAfter():
            after = problem.retry_after
            delay = after if isinstance(after, timedelta) else timedelta(seconds=after)
            return RetryAfter(reason=RetryReason.RATE_LIMITED, delay=delay, detail=detail)
        case error.InvalidToken():
            return RetryAfter(reason=RetryReason.TOKEN_REFUSED, delay=TOKEN_RETRY, detail=detail)
        case error.Forbidden():
            return Refused(reason=RefusalReason.FORBIDDEN, detail=detail)
        case error.BadRequest():  # a NetworkError by its class, a refusal by its meaning
            texts = (reason for text, reason in _BAD_REQUESTS if text in detail.lower())
            return Refused(reason=next(texts, RefusalReason.BAD_REQUEST), detail=detail)
    reason = RetryReason.SERVER_ERROR
    if isinstance(problem, error.TimedOut):
        reason = RetryReason.TIMED_OUT
    elif isinstance(problem.__cause__, httpx.HTTPError):
        reason = RetryReason.NOT_REACHABLE
    was_sent = reason is not RetryReason.SERVER_ERROR and not isinstance(problem.__cause__, _NEVER_SENT)
    return RetryAfter(reason=reason, detail=detail, may_have_arrived=was_sent)
