"""What people write, who may, and what buttons carry."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting import wording
from alerting.bot.access import Access, AllowList
from alerting.bot.commands import AskHistory, DoMute, DoUnmute, Misunderstood, Question, Wrong, command_of, duration_of
from alerting.bot.presses import Press, buttons_of, press_of, press_text
from alerting.muting import Scope, Target
from tests.fakes.alerts import make_alert

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("/status", Question.STATUS),
        ("/STATUS@Fleet_Bot now", Question.STATUS),
        ("/status@other_bot", None),  # in a group each bot hears what is said to the others
        ("hello", None),
        ("", None),
        ("/", None),
        ("/history cam-1", AskHistory("cam-1")),
        ("/history", AskHistory()),
        ("/mute 1h", DoMute(Target(Scope.ALL), HOUR)),
        ("/mute all 60m", DoMute(Target(Scope.ALL), HOUR)),
        ("/mute rule crowd 1h", DoMute(Target(Scope.RULE, "crowd"), HOUR)),
        ("/mute device cam 1 1H", DoMute(Target(Scope.DEVICE, "cam 1"), HOUR)),
        ("/mute crowd 1h", Misunderstood(Wrong.USAGE, "/mute [rule NAME | device NAME | all] DURATION")),
        ("/mute device 1h", Misunderstood(Wrong.USAGE, "/mute [rule NAME | device NAME | all] DURATION")),
        ("/mute", Misunderstood(Wrong.USAGE, "/mute [rule NAME | device NAME | all] DURATION")),
        ("/mute all soon", Misunderstood(Wrong.DURATION, "soon")),
        ("/mute 8d", Misunderstood(Wrong.DURATION, "8d")),
        ("/unmute", DoUnmute()),
        ("/unmute all", DoUnmute()),
        ("/unmute rule crowd", DoUnmute(Target(Scope.RULE, "crowd"))),
        ("/unmute crowd", Misunderstood(Wrong.USAGE, "/unmute [rule NAME | device NAME | all]")),
        ("/dance", Misunderstood(Wrong.UNKNOWN, "/dance")),
    ],
)
def test_commands(text, command):
    assert command_of(text, "fleet_bot") == command


@pytest.mark.parametrize("word", ["0m", "-1h", "1", "h", "1.5h", "1w", "169h", "\u0661h", "999999999h"])
def test_what_is_no_length_of_time(word):
    assert duration_of(word) is None


@given(st.text())
@settings(max_examples=40)
def test_whatever_is_written_is_read_without_an_error(text):
    command_of(text, "fleet_bot")
    command_of("/mute " + text, "fleet_bot")
    press_of(text)


@pytest.mark.parametrize(
    ("chat", "user", "access"),
    [
        (42, 42, Access.ALLOWED),  # a private chat that is listed
        (42, 43, Access.UNKNOWN_USER),  # no private chat has two people; refused all the same
        (-5, 8, Access.ALLOWED),
        (-5, 9, Access.UNKNOWN_USER),
        (-5, None, Access.UNKNOWN_USER),  # a channel's post has no author
        (8, 8, Access.UNKNOWN_CHAT),  # a listed user in another chat
        (9, 9, Access.UNKNOWN_CHAT),
    ],
)
def test_who_is_heard(chat, user, access):
    assert AllowList(frozenset({42, -5}), frozenset({8})).access(chat, user) is access


@settings(max_examples=40)
@given(st.text(min_size=1, max_size=80), st.sampled_from([None, Scope.DEVICE, Scope.RULE]))
def test_a_button_gives_back_what_was_put_into_it_or_is_not_made(alert_id, mute):
    text = press_text(Press(alert_id, mute))
    if text is None:
        assert len(alert_id.encode()) > 64 - len("mute-device:")
    else:
        assert len(text.encode()) <= 64
        assert press_of(text) == Press(alert_id, mute)


def test_buttons_of_an_alert():
    say = wording.catalog("en")
    assert [button.press for row in buttons_of(make_alert("a1"), say) for button in row] == [
        "ack:a1", "mute-device:a1", "mute-rule:a1",
    ]  # fmt: skip
    over = buttons_of(make_alert("a1", after=3), say)
    assert [button.press for row in over for button in row] == ["mute-device:a1", "mute-rule:a1"]
    assert buttons_of(make_alert("x" * 100), say) == ()
