"""The contract of ``Notifier``, over every channel and the double that tests use; Telegram over HTTP."""

from __future__ import annotations

import io
import logging
from datetime import timedelta

import pytest
from pydantic import SecretStr

from alerting import wording
from alerting.console import ConsoleNotifier
from alerting.ports import Delivered, Notice, RefusalReason, Refused, RetryAfter, RetryReason
from alerting.telegram import TelegramClient, TelegramNotifier
from fleetwatch.errors import EnvironmentProblemError
from tests.fakes.alerts import NOW, ScriptedNotifier, waiting
from tests.fakes.bot_api import BotApi, Fault

CHAT = 42
SAY = wording.catalog("en")
GROUP = -1001


@pytest.fixture
def api():
    with BotApi(chats={CHAT, GROUP}, chat_seconds=0) as server:
        yield server


@pytest.fixture
async def client(api):
    client = TelegramClient(SecretStr(api.token), api.url)
    yield client
    await client.close()


@pytest.fixture(params=["console", "telegram", "scripted"])
def notifier(request):
    if request.param == "console":
        return ConsoleNotifier(io.StringIO())
    if request.param == "telegram":
        return TelegramNotifier(request.getfixturevalue("client"), CHAT, SAY)
    return ScriptedNotifier()


# --- every channel


async def test_a_notice_is_delivered(notifier):
    outcome = await notifier.send(notifier.compose([waiting(1)], NOW))
    assert isinstance(outcome, Delivered)


def test_composing_takes_from_the_front_and_names_each_alert(notifier):
    changes = [waiting(offset) for offset in range(100, 300)]
    notice = notifier.compose(changes, NOW)
    assert 1 <= len(notice.changes) <= len(changes)
    assert list(notice.changes) == changes[: len(notice.changes)]
    assert all(change.alert.alert_id in notice.text for change in notice.changes)


def test_composing_twice_gives_the_same(notifier):
    assert notifier.compose([waiting(1)], NOW) == notifier.compose([waiting(1)], NOW)


def test_a_lane_is_named_after_its_channel(notifier):
    assert notifier.lane.split(":")[0] == notifier.channel


# --- Telegram: each answer of the API

FLOOD = RetryAfter(reason=RetryReason.RATE_LIMITED, delay=timedelta(seconds=3))


@pytest.mark.parametrize(
    ("fault", "reason", "delay"),
    [
        (Fault.ERROR, RetryReason.SERVER_ERROR, None),
        (Fault.BAD_GATEWAY, RetryReason.SERVER_ERROR, None),
        (Fault.DROP_BEFORE, RetryReason.NOT_REACHABLE, None),
        (Fault.DROP_AFTER, RetryReason.NOT_REACHABLE, None),
        (Fault.FLOOD, RetryReason.RATE_LIMITED, timedelta(seconds=3)),
    ],
)
async def test_faults_that_pass(api, client, fault, reason, delay):
    api.fail_next(1, fault, retry_after=3)
    outcome = await send(client)
    assert isinstance(outcome, RetryAfter)
    assert (outcome.reason, outcome.delay) == (reason, delay)
    assert isinstance(await send(client), Delivered)
    assert [method for method, _ in api.requests] == ["sendMessage"] * 2


async def test_an_api_that_is_away_is_not_reachable(api, client):
    api.go_down()
    outcome = await send(client)
    assert isinstance(outcome, RetryAfter)
    assert outcome.reason is RetryReason.NOT_REACHABLE


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x" * 4097, RefusalReason.TOO_LONG),
        ("<b>never closed", RefusalReason.BAD_MARKUP),
        ("<blink>unknown</blink>", RefusalReason.BAD_MARKUP),
        (" ", RefusalReason.BAD_REQUEST),
    ],
)
async def test_texts_that_the_api_refuses(client, text, reason):
    outcome = await TelegramNotifier(client, CHAT, SAY).send(Notice(changes=(waiting(1),), text=text))
    assert isinstance(outcome, Refused)
    assert outcome.reason is reason


async def test_chats_that_the_api_refuses(api, client):
    stranger = await send(client, 4711)
    assert isinstance(stranger, Refused)
    assert stranger.reason is RefusalReason.CHAT_NOT_FOUND
    api.forbidden.add(CHAT)
    blocked = await send(client)
    assert isinstance(blocked, Refused)
    assert blocked.reason is RefusalReason.FORBIDDEN


async def test_a_group_that_moved_is_followed(api, client):
    api.migrated[-5] = GROUP
    notifier = TelegramNotifier(client, -5, SAY)
    first = await notifier.send(notifier.compose([waiting(1)], NOW))
    assert isinstance(first, RetryAfter)
    assert first.reason is RetryReason.CHAT_MIGRATED
    assert isinstance(await notifier.send(notifier.compose([waiting(1)], NOW)), Delivered)
    assert [message.chat_id for message in api.sent] == [GROUP]


async def test_a_token_that_is_not_taken(api):
    client = TelegramClient(SecretStr("123456:another"), api.url)
    with pytest.raises(EnvironmentProblemError, match="FLEETWATCH_TELEGRAM_TOKEN"):
        await client.check()
    outcome = await send(client)
    assert isinstance(outcome, RetryAfter)
    assert outcome.reason is RetryReason.TOKEN_REFUSED
    await client.close()


async def test_the_check_says_who_the_bot_is_and_forgives_an_api_that_is_away(api, client):
    assert await client.check() == "fleetwatch_bot"
    api.go_down()
    assert await client.check() == ""


async def test_a_full_group_message_is_taken(api, client):
    notifier = TelegramNotifier(client, CHAT, SAY)
    changes = [waiting(offset, summary="level < 80 & falling > fast") for offset in range(200)]
    notice = notifier.compose(changes, NOW)
    assert isinstance(await notifier.send(notice), Delivered)
    assert len(notice.changes) > 20
    assert api.sent[0].text.count("level < 80 & falling > fast") == len(notice.changes)


# --- Telegram: the token


@pytest.mark.parametrize("fault", [None, *Fault])
async def test_the_token_is_in_no_log_and_no_exception(api, client, caplog, fault):
    """httpx logs each URL at INFO and httpcore at DEBUG; a refused token is named by python-telegram-bot."""
    for name in ("", "httpx", "httpcore", "telegram"):  # a command that ran before in this process has quieted them
        caplog.set_level(logging.DEBUG, logger=name or None)
    if fault is not None:
        api.fail_next(1, fault)
    outcomes = [await send(client), await send(client, 4711), await client.check()]
    wrong = TelegramClient(SecretStr("123456:another-secret"), api.url)
    with pytest.raises(EnvironmentProblemError) as raised:
        await wrong.check()
    outcomes.append(await send(wrong))
    await wrong.close()
    secrets = (api.token.partition(":")[2], "another-secret")
    seen = caplog.text + repr(outcomes) + repr(raised.value) + repr(client.bot)
    records = [str(vars(record)) for record in caplog.records]
    assert len(records) > 10
    assert "/sendMessage" in caplog.text
    assert not any(secret in text for secret in secrets for text in (seen, *records))


async def send(client, chat_id=CHAT):
    notifier = TelegramNotifier(client, chat_id, SAY)
    return await notifier.send(notifier.compose([waiting(1)], NOW))
