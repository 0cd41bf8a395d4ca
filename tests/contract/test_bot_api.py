"""The fake Bot API is as strict as the original, seen through python-telegram-bot and raw HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

os.environ.setdefault("PTB_TIMEDELTA", "true")

from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup, error

from tests.fakes.bot_api import BotApi, Fault, buttons
from tests.services import wait_until

CHAT = 42


@pytest.fixture
def api():
    with BotApi(chats={CHAT, -100}, chat_seconds=0) as server:
        yield server


@pytest.fixture
async def bot(api):
    async with Bot(api.token, base_url=f"{api.url}/bot") as bot:
        yield bot


def call(api, method, *, token=None, **parameters):
    """Return status and answer of one raw request."""
    url = f"{api.url}/bot{token or api.token}/{method}?{urllib.parse.urlencode(parameters)}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as problem:
        with problem:
            return problem.code, json.load(problem)


@pytest.mark.parametrize(
    ("parameters", "code", "description"),
    [
        ({"text": "hi"}, 400, "Bad Request: chat_id is empty"),
        ({"chat_id": 5, "text": "hi"}, 400, "Bad Request: chat not found"),
        ({"chat_id": "x", "text": "hi"}, 400, "Bad Request: chat not found"),
        ({"chat_id": CHAT}, 400, "Bad Request: message text is empty"),
        ({"chat_id": CHAT, "text": "<b></b>", "parse_mode": "HTML"}, 400, "Bad Request: message text is empty"),
        ({"chat_id": CHAT, "text": "x" * 4097}, 400, "Bad Request: message is too long"),
        ({"chat_id": CHAT, "text": "x" * 4096}, 200, None),
        ({"chat_id": CHAT, "text": "<b>" + "x" * 4096 + "</b>", "parse_mode": "HTML"}, 200, None),
        ({"chat_id": CHAT, "text": "<b> as it is"}, 200, None),
        ({"chat_id": CHAT, "text": "a & b &lt;", "parse_mode": "HTML"}, 200, None),
        (
            {"chat_id": CHAT, "text": "<b>x", "parse_mode": "HTML"},
            400,
            "Bad Request: can't parse entities: Can't find end tag corresponding to start tag \"b\"",
        ),
        (
            {"chat_id": CHAT, "text": "é<p>x</p>", "parse_mode": "HTML"},
            400,
            'Bad Request: can\'t parse entities: Unsupported start tag "p" at byte offset 2',
        ),
        (
            {"chat_id": CHAT, "text": "x</b>", "parse_mode": "HTML"},
            400,
            "Bad Request: can't parse entities: Unexpected end tag at byte offset 1",
        ),
        (
            {"chat_id": CHAT, "text": "<b><i>x</b></i>", "parse_mode": "HTML"},
            400,
            'Bad Request: can\'t parse entities: Unmatched end tag at byte offset 7, expected "</i>", found "</b>"',
        ),
    ],
)
def test_send_message(api, parameters, code, description):
    status, answer = call(api, "sendMessage", **parameters)
    assert status == code
    assert answer["ok"] is (code == 200)
    assert answer.get("description") == description


def test_tokens(api):
    assert call(api, "getMe")[0] == 200
    assert call(api, "getMe", token="1:wrong")[0] == 401
    assert call(api, "getMe", token="nonsense")[0] == 404
    assert call(api, "noSuchMethod")[0] == 404


def test_flood_control_of_a_chat_and_of_a_group():
    with BotApi(chats={CHAT}, chat_seconds=60) as api:
        assert call(api, "sendMessage", chat_id=CHAT, text="1")[0] == 200
        status, answer = call(api, "sendMessage", chat_id=CHAT, text="2")
        assert status == 429
        assert 59 <= answer["parameters"]["retry_after"] <= 61
    with BotApi(chats={-100, CHAT}, chat_seconds=0, group_per_minute=2) as api:
        assert [call(api, "sendMessage", chat_id=-100, text="x")[0] for _ in range(3)] == [200, 200, 429]
        assert [call(api, "sendMessage", chat_id=CHAT, text="x")[0] for _ in range(3)] == [200, 200, 200]


def test_faults_hit_so_many_requests_and_a_drop_after_has_done_its_work(api):
    api.fail_next(2, Fault.ERROR)
    assert [call(api, "getMe")[0] for _ in range(3)] == [500, 500, 200]
    for fault, sent in ((Fault.DROP_BEFORE, 0), (Fault.DROP_AFTER, 1)):
        api.fail_next(1, fault)
        with pytest.raises(OSError):  # noqa: PT011  # whichever way the connection breaks
            call(api, "sendMessage", chat_id=CHAT, text="x")
        assert len(api.sent) == sent


def test_down_and_up_again_on_the_same_port(api):
    url = api.url
    api.go_down()
    with pytest.raises(OSError, match="refused"):
        call(api, "getMe")
    api.come_up()
    assert api.url == url
    assert call(api, "getMe")[0] == 200


async def test_updates_are_given_until_confirmed(api, bot):
    api.say(CHAT, "/status now")
    api.say(CHAT, "thanks")
    first = await bot.get_updates()
    assert [update.message.text for update in first] == ["/status now", "thanks"]
    assert len(await bot.get_updates()) == 2
    (second,) = await bot.get_updates(offset=first[1].update_id)
    assert second.message.text == "thanks"
    assert await bot.get_updates(offset=second.update_id + 1) == ()


async def test_a_long_poll_returns_as_soon_as_something_is_there(api, bot):
    waiting = asyncio.create_task(bot.get_updates(timeout=20))
    await asyncio.to_thread(wait_until, lambda: api._poller == 1, what="the poll")
    started = time.monotonic()
    api.say(CHAT, "hello")
    assert len(await waiting) == 1
    assert time.monotonic() - started < 5


def test_a_second_poller_ends_the_first_with_a_conflict(api):
    answers = []
    first = threading.Thread(target=lambda: answers.append(call(api, "getUpdates", timeout=20)))
    first.start()
    wait_until(lambda: api._poller == 1, what="the first poll")
    assert call(api, "getUpdates")[0] == 200
    first.join(10)
    assert answers[0][0] == 409


async def test_buttons(api, bot):
    keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("Acknowledge", callback_data="ack:1")]])
    message = await bot.send_message(CHAT, "alert", reply_markup=keyboard)
    api.press(api.sent[0], "ack:1")
    (update,) = await bot.get_updates()
    assert update.callback_query.data == "ack:1"
    assert await bot.answer_callback_query(update.callback_query.id)
    with pytest.raises(error.BadRequest, match="Query is too old"):
        await bot.answer_callback_query(update.callback_query.id)
    await bot.edit_message_text("acknowledged", chat_id=CHAT, message_id=message.message_id)
    assert api.sent[0].text == "acknowledged"
    with pytest.raises(error.BadRequest, match="is not modified"):
        await bot.edit_message_text("acknowledged", chat_id=CHAT, message_id=message.message_id)
    with pytest.raises(error.BadRequest, match="to edit not found"):
        await bot.edit_message_text("x", chat_id=CHAT, message_id=99)


@pytest.mark.parametrize(("length", "is_taken"), [(64, True), (65, False)])
async def test_callback_data_has_64_bytes(bot, length, is_taken):
    keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("x", callback_data="x" * length)]])
    if is_taken:
        assert await bot.send_message(CHAT, "x", reply_markup=keyboard)
    else:
        with pytest.raises(error.BadRequest, match=r"(?i)BUTTON_DATA_INVALID"):
            await bot.send_message(CHAT, "x", reply_markup=keyboard)


async def test_the_buttons_of_a_message_alone_are_edited(api, bot):
    first, second = (
        InlineKeyboardMarkup([[InlineKeyboardButton(text, callback_data="ack:1")]]) for text in ("Acknowledge", "✓ Ann")
    )
    message = await bot.send_message(CHAT, "alert", reply_markup=first)
    await bot.edit_message_reply_markup(CHAT, message.message_id, reply_markup=second)
    assert buttons(api.sent[0]) == {"✓ Ann": "ack:1"}
    assert api.sent[0].text == "alert"
    with pytest.raises(error.BadRequest, match="is not modified"):
        await bot.edit_message_reply_markup(CHAT, message.message_id, reply_markup=second)
    with pytest.raises(error.BadRequest, match="to edit not found"):
        await bot.edit_message_reply_markup(CHAT, 99, reply_markup=second)


async def test_what_is_shown_to_who_pressed_has_two_hundred_characters(api, bot):
    message = InlineKeyboardMarkup([[InlineKeyboardButton("x", callback_data="ack:1")]])
    await bot.send_message(CHAT, "alert", reply_markup=message)
    api.press(api.sent[0], "ack:1")
    (update,) = await bot.get_updates()
    with pytest.raises(error.BadRequest, match=r"(?i)message_too_long"):
        await bot.answer_callback_query(update.callback_query.id, text="x" * 201)
    assert await bot.answer_callback_query(update.callback_query.id, text="x" * 200)
    assert api.query_answers == ["x" * 200]


@pytest.mark.parametrize(
    ("command", "is_taken"),
    [(("status", "how it is"), True), (("Status!", "x"), False), (("status", ""), False), (("s" * 33, "x"), False)],
)
async def test_commands_of_the_menu(api, bot, command, is_taken):
    if is_taken:
        assert await bot.set_my_commands([command])
        assert api.commands == [{"command": command[0], "description": command[1]}]
    else:
        with pytest.raises(error.BadRequest, match=r"(?i)bot_command"):
            await bot.set_my_commands([command])


async def test_only_the_kinds_of_updates_that_were_asked_for_come(api, bot):
    assert await bot.get_updates(allowed_updates=["callback_query"]) == ()
    api.say(CHAT, "hello")
    assert await bot.get_updates() == ()


async def test_with_a_webhook_nothing_can_be_polled(api, bot):
    api.has_webhook = True
    with pytest.raises(error.Conflict, match="webhook is active"):
        await bot.get_updates()
    await bot.delete_webhook()
    assert await bot.get_updates() == ()
