from __future__ import annotations

from datetime import timedelta

import httpx
import pytest
from pydantic import SecretStr
from telegram import error

from alerting.channels import open_channels
from alerting.ports import RefusalReason, Refused, RetryAfter, RetryReason
from alerting.telegram import TelegramClient, outcome_of
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.settings import Settings


def unreachable():
    problem = error.NetworkError("httpx.ConnectError: All connection attempts failed")
    problem.__cause__ = httpx.ConnectError("All connection attempts failed")
    return problem


RETRIED = [
    pytest.param(error.TimedOut(), RetryReason.TIMED_OUT, None, id="time-out"),
    pytest.param(unreachable(), RetryReason.NOT_REACHABLE, None, id="nobody listens"),
    pytest.param(error.NetworkError("Bad Gateway"), RetryReason.SERVER_ERROR, None, id="5xx"),
    pytest.param(error.TelegramError("Invalid server response"), RetryReason.SERVER_ERROR, None, id="no JSON"),
    pytest.param(error.RetryAfter(timedelta(seconds=7)), RetryReason.RATE_LIMITED, 7, id="429"),
    pytest.param(error.InvalidToken("Unauthorized"), RetryReason.TOKEN_REFUSED, 60, id="401"),
]

REFUSED = [
    pytest.param(error.BadRequest("Chat not found"), RefusalReason.CHAT_NOT_FOUND, id="chat not found"),
    pytest.param(error.BadRequest("Message is too long"), RefusalReason.TOO_LONG, id="too long"),
    pytest.param(
        error.BadRequest("Can't parse entities: unsupported start tag"), RefusalReason.BAD_MARKUP, id="markup"
    ),
    pytest.param(error.BadRequest("Something new"), RefusalReason.BAD_REQUEST, id="any other 400"),
    pytest.param(error.Forbidden("Forbidden: bot was blocked by the user"), RefusalReason.FORBIDDEN, id="403"),
]


@pytest.mark.parametrize(("problem", "reason", "seconds"), RETRIED)
def test_tried_again(problem, reason, seconds):
    outcome = outcome_of(problem, problem.message)
    assert isinstance(outcome, RetryAfter)
    assert outcome.reason is reason
    assert outcome.delay == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize(("problem", "reason"), REFUSED)
def test_refused_for_good(problem, reason):
    outcome = outcome_of(problem, problem.message)
    assert isinstance(outcome, Refused)
    assert outcome.reason is reason


@pytest.mark.parametrize("token", ["", "abc", "123:", "123:a b", "123:ab/../x", "123:abc\n"])
def test_what_is_no_token_is_an_environment_problem_that_does_not_show_it(token):
    with pytest.raises(EnvironmentProblemError, match="FLEETWATCH_TELEGRAM_TOKEN") as raised:
        TelegramClient(SecretStr(token), "https://api.example")
    assert not token.strip() or token not in str(raised.value)


def test_a_token_without_chats_is_an_environment_problem():
    with pytest.raises(EnvironmentProblemError, match="FLEETWATCH_TELEGRAM_CHAT_IDS"):
        open_channels(Settings(telegram_token=SecretStr("1:abc")))


def test_without_a_token_there_is_the_console_alone():
    channels = open_channels(Settings())
    assert [notifier.lane for notifier in channels.notifiers] == ["console"]
    assert channels.telegram is None


async def test_a_notifier_for_each_chat_once():
    channels = open_channels(Settings(telegram_token=SecretStr("1:abc"), telegram_chat_ids=(5, -7, 5)))
    assert [notifier.lane for notifier in channels.notifiers] == ["console", "telegram:5", "telegram:-7"]
    await channels.close()


async def test_the_bot_does_not_know_its_token():
    client = TelegramClient(SecretStr("123:very-secret"), "https://api.example")
    assert "very-secret" not in repr(client.bot) + client.bot.base_url + client.bot.base_file_url
    await client.close()
