"""Asks the Bot API what people wrote and pressed, and has it answered. On a loop and connections of its own.

Sending alerts never waits for it: replies go to the lanes, which pace them with everything else. Only one program may
poll a bot: a second one gets a conflict, waits, and says what to do.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from telegram import BotCommand, InlineKeyboardButton, InlineKeyboardMarkup, Message, Update, error

from alerting import wording
from alerting.backoff import backoff_seconds
from alerting.bot import answers
from alerting.bot.access import Access, AllowList
from alerting.bot.commands import USAGE, command_of
from alerting.bot.handler import Person
from alerting.bot.presses import press_of
from alerting.telegram import lane_of, outcome_of
from fleetwatch.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from telegram import CallbackQuery, User

    from alerting.bot.handler import Handler
    from alerting.ports import Reply
    from alerting.telegram import TelegramClient
    from fleetwatch.i18n import Texts

log = get_logger(__name__)

POLL_SECONDS: Final = 25
CONFLICT_SECONDS: Final = 30.0
LONGEST_CONFLICT_SECONDS: Final = 300.0
TOKEN_SECONDS: Final = 60.0
NOTE_LENGTH: Final = 200
"""What the API shows to who pressed a button, in characters."""
MOST_STRANGERS: Final = 1000
ALLOWED_UPDATES: Final = ["message", "callback_query"]
CONFLICT: Final = (
    "another program reads this bot's messages: stop it, or give each its own bot; alerts go out all the same"
)
WEBHOOK: Final = "the bot has a webhook, so its messages cannot be read: remove it with the Bot API's deleteWebhook"


class Poller:
    """Runs until cancelled. ``count`` gets what happened: commands, presses, strangers, failures."""

    def __init__(  # noqa: PLR0913  # every collaborator comes from outside
        self,
        client: TelegramClient,
        handler: Handler,
        allowed: AllowList,
        reply: Callable[[str, Reply], None],
        say: Texts,
        *,
        count: Callable[[str], None],
        random: Random,
    ) -> None:
        self._client = client
        self._handler = handler
        self._allowed = allowed
        self._reply = reply
        self._say = say
        self._count = count
        self._random = random
        self._name = ""
        self._offset = 0
        self._strangers: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._failures = 0
        self.trouble = ""
        """What keeps it from hearing people, for /status; empty when nothing does."""

    async def run(self) -> None:
        """Poll until cancelled."""
        try:
            while True:
                await self._step()
        finally:
            await self._client.close()

    async def _step(self) -> None:
        try:
            if not self._name:
                await self._introduce()
            updates = await self._client.bot.get_updates(
                offset=self._offset, timeout=POLL_SECONDS, allowed_updates=ALLOWED_UPDATES
            )
        except error.TelegramError as problem:
            await self._wait_after(problem)
            return
        if self.trouble:
            log.info("bot_hears_again")
        self._failures, self.trouble = 0, ""
        for update in updates:
            self._offset = update.update_id + 1
            await self._take(update)

    async def _introduce(self) -> None:
        self._name = (await self._client.bot.get_me()).username or "?"
        menu = [BotCommand(name, self._say(f"command.{name}")) for name in USAGE]
        try:
            await self._client.bot.set_my_commands(menu)
        except error.TelegramError as problem:  # the menu is a convenience
            log.warning("bot_menu_not_set", kind=type(problem).__name__)
        log.info("bot_listens", bot=self._name, chats=len(self._allowed.chats), users=len(self._allowed.users))

    async def _wait_after(self, problem: error.TelegramError) -> None:
        self._failures += 1
        seconds = backoff_seconds(self._failures, self._random)
        detail = self._client.hide_token(problem.message)
        if isinstance(problem, error.Conflict):
            wait = min(CONFLICT_SECONDS * 2.0 ** min(self._failures - 1, 10), LONGEST_CONFLICT_SECONDS)
            seconds = wait * (0.75 + 0.5 * self._random.random())
            trouble = WEBHOOK if "webhook" in detail.lower() else CONFLICT
        elif isinstance(problem, error.InvalidToken):
            seconds, trouble = TOKEN_SECONDS, "Telegram refuses the bot's token: set FLEETWATCH_TELEGRAM_TOKEN"
        else:
            outcome = outcome_of(problem, detail)
            trouble = f"Telegram does not answer the bot: {outcome.reason.value.lower().replace('_', ' ')}"
            delay = getattr(outcome, "delay", None)
            seconds = seconds if delay is None else max(seconds, delay.total_seconds())
        if trouble != self.trouble:
            log.warning("bot_hears_nothing", what=trouble, seconds=round(seconds, 1))
        self.trouble = trouble
        await asyncio.sleep(seconds)

    async def _take(self, update: Update) -> None:
        """Handle one update; whatever goes wrong ends here, and nothing that people wrote is logged."""
        try:
            if update.callback_query is not None:
                await self._pressed(update.callback_query, update.update_id)
            elif update.message is not None and update.message.text:
                await self._wrote(update.message, update.message.text, update.update_id)
        except Exception as problem:  # noqa: BLE001  # one message must not end the bot
            self._count("bot_failures")
            log.error("bot_failed", kind=type(problem).__name__)  # noqa: TRY400  # a trace would show what was written
            chat = update.effective_chat
            if chat is not None and chat.id in self._allowed.chats:
                self._reply(lane_of(chat.id), answers.plain_reply("say.failed", self._say))

    async def _wrote(self, message: Message, text: str, update_id: int) -> None:
        command = command_of(text, self._name)
        if command is None:
            return
        if not self._is_allowed(message.chat.id, message.from_user):
            return
        assert message.from_user is not None
        person = _person(message.from_user, message.date, update_id)
        self._count("commands")
        reply = await asyncio.to_thread(self._handler.answer, command, person)
        self._reply(lane_of(message.chat.id), reply)

    async def _pressed(self, query: CallbackQuery, update_id: int) -> None:
        chat_id = query.message.chat.id if query.message is not None else 0
        if not self._is_allowed(chat_id, query.from_user):
            return
        press = press_of(query.data or "")
        if press is None:
            await self._client.bot.answer_callback_query(query.id, text=self._say("say.unknown_button"))
            return
        self._count("presses")
        person = _person(query.from_user, datetime.now(UTC), update_id)
        pressed = await asyncio.to_thread(self._handler.press, press, person)
        if pressed.reply is not None:
            self._reply(lane_of(chat_id), pressed.reply)
        try:
            await self._client.bot.answer_callback_query(query.id, text=pressed.note[:NOTE_LENGTH] or None)
            if pressed.acknowledged_by and isinstance(query.message, Message):
                await self._mark(query.message, query.data or "", pressed.acknowledged_by)
        except error.TelegramError as problem:  # done all the same: only the sign of it is missing
            log.warning("press_not_answered", kind=type(problem).__name__)

    async def _mark(self, message: Message, data: str, who: str) -> None:
        """Let the pressed button say who has the alert now."""
        keyboard = message.reply_markup
        if keyboard is None:
            return
        label = "✓ " + self._say("button.done", who=who)
        rows = [
            [
                InlineKeyboardButton(label, callback_data=data) if button.callback_data == data else button
                for button in row
            ]
            for row in keyboard.inline_keyboard
        ]
        marked = InlineKeyboardMarkup(rows)
        if marked != keyboard:
            await self._client.bot.edit_message_reply_markup(message.chat.id, message.message_id, reply_markup=marked)

    def _is_allowed(self, chat_id: int, user: User | None) -> bool:
        """Say whether to listen. A stranger in a chat of ours is refused once; in another chat nobody answers."""
        user_id = user.id if user is not None else 0
        access = self._allowed.access(chat_id, user_id)
        if access is Access.ALLOWED:
            return True
        self._count("strangers")
        if (chat_id, user_id) not in self._strangers:
            self._strangers[(chat_id, user_id)] = None
            if len(self._strangers) > MOST_STRANGERS:
                self._strangers.popitem(last=False)
            log.warning("bot_stranger", why=access.value, chat=chat_id, user=user_id)
            if access is Access.UNKNOWN_USER:
                self._reply(lane_of(chat_id), answers.plain_reply("say.refused", self._say, user=str(user_id)))
        return False


def _person(user: User, at: datetime, update_id: int) -> Person:
    name = f"@{user.username}" if user.username else user.full_name
    return Person(name=wording.clean(name, 60) or str(user.id), user_id=user.id, at=at, update_id=update_id)
