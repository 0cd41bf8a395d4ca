"""Every message of alerting in both languages, as it is sent. ``REWRITE_GOLDEN=1`` writes the files; read the diff."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from alerting import wording
from alerting.bot import answers, presses
from alerting.bot.commands import USAGE, Misunderstood, Wrong
from alerting.fleet import FleetStatus, Lag, Sighting
from alerting.muting import Mute, Scope, Standing, Target
from alerting.ports import Reply
from alerting.render import telegram_group_html, telegram_html
from fleetwatch.records import Action, AlertAction, RuleKind, Severity
from tests.fakes.alerts import NOW, STARTED, make_alert, waiting
from tests.fakes.bot_html import visible_text

FOLDER = Path(__file__).resolve().parents[2] / "golden" / "alerting"
HOT = make_alert("a1", severity=Severity.CRITICAL, rule="overheated", summary="temp-north-03 is above 80: 93.2 °C")
ODD = make_alert(
    "b2",
    kind=RuleKind.ANOMALY,
    rule="anomaly",
    device_id="vib-<7>",
    value=4.2,
    summary="vib-<7> behaves unusually: 4.2 mm/s (level, 1 in 12,000 by adaptive; usually 1.1 to 1.4)",
)
QUIET = make_alert(
    "c3",
    kind=RuleKind.SILENCE,
    rule="silent",
    value=125.0,
    threshold=20.0,
    summary="temp-north-03 has sent nothing for 125 s",
)
CROWD = make_alert(
    "d4", kind=RuleKind.COUNT, rule="crowd", device_id="cam-gate-01", value=214.0, threshold=200.0,
    severity=Severity.CRITICAL, summary="cam-gate-01 has 214 events within 10 s",
)  # fmt: skip
OVER = make_alert(
    "a1", after=125, severity=Severity.CRITICAL, summary="temp-north-03 is back at 71 °C after 125 s", value=71.0
)
STATUS = FleetStatus(
    at=NOW,
    devices=1056,
    silent=2,
    open_alerts={Severity.CRITICAL: 1, Severity.WARNING: 3},
    lag=Lag(streams=0, database=1200, cache=3),
)
CALM = FleetStatus(at=NOW, devices=1, silent=0)
UNTIL = NOW + timedelta(hours=1)
MUTES = [
    Mute(target=Target(Scope.RULE, "crowd"), who="@ann", at=NOW, until=UNTIL),
    Mute(target=Target(Scope.DEVICE, "cam-1"), who="@ann", at=NOW, until=None),
]
SEEN = [
    Sighting(time=NOW - timedelta(seconds=number), seq=1204 - number, label="person", confidence=0.914)
    for number in range(3)
]
ACKNOWLEDGED = Standing().after(
    [
        AlertAction(
            action_id="x", alert_id="b2", device_id="vib-<7>", action=Action.ACKNOWLEDGE, who="Ann <3", at=STARTED
        )
    ]
)


def messages(say):
    mute = MUTES[0]
    group = [waiting(n, alert) for n, alert in enumerate([HOT, QUIET, OVER])]
    yield "an alert", Reply(text=telegram_html(HOT, NOW, say), buttons=presses.buttons_of(HOT, say))
    yield "an anomaly, perhaps said before", Reply(text=telegram_html(ODD, NOW, say, is_repeat=True))
    yield "silence", Reply(text=telegram_html(QUIET, NOW, say))
    yield "many detections", Reply(text=telegram_html(CROWD, NOW, say))
    yield "an end", Reply(text=telegram_html(OVER, NOW, say), buttons=presses.buttons_of(OVER, say))
    yield "a group", Reply(text=telegram_group_html(group, NOW, say)[0], buttons=presses.group_buttons(HOT, say))
    yield "the summary", Reply(text=answers.summary_html(STATUS, CROWD, NOW, say))
    yield "/status", answers.status_reply(STATUS, MUTES, say)
    yield "/status of a calm fleet", answers.status_reply(CALM, [], say)
    yield "/history cam-gate-01", answers.history_reply("cam-gate-01", SEEN, NOW, say)
    yield "/history cam-9", answers.history_reply("cam-9", [], NOW, say)
    yield "/history", answers.cameras_reply(["cam-1", "cam-2"], say)
    yield "/alerts", answers.alerts_reply([CROWD, ODD, *[QUIET] * 12], ACKNOWLEDGED, NOW, say)
    yield "/alerts of a calm fleet", answers.alerts_reply([], ACKNOWLEDGED, NOW, say)
    yield "/mute", answers.muted_reply(mute, NOW, say, is_seen=True)
    yield (
        "/mute everything",
        answers.muted_reply(Mute(target=Target(Scope.ALL), who="@ann", at=NOW, until=UNTIL), NOW, say, is_seen=True),
    )
    yield "/mute of an unknown name", answers.muted_reply(mute, NOW, say, is_seen=False)
    yield "/mute that is over", answers.mute_over_reply(UNTIL, NOW, say)
    yield "/unmute", answers.unmuted_reply([Target(Scope.RULE, "crowd"), Target(Scope.ALL)], "@ann", 2, say)
    yield "/unmute without a mute", answers.not_muted_reply(None, say)
    yield "/unmute of what is not muted", answers.not_muted_reply(Target(Scope.DEVICE, "cam-1"), say)
    yield "/start", answers.help_reply(say, welcome=True)
    yield "/dance", answers.misunderstood_reply(Misunderstood(Wrong.UNKNOWN, "/dance"), say)
    yield "/mute soon", answers.misunderstood_reply(Misunderstood(Wrong.DURATION, "soon"), say)
    yield "/mute without anything", answers.misunderstood_reply(Misunderstood(Wrong.USAGE, USAGE["mute"]), say)
    for key in ("not_recorded", "not_readable", "failed"):
        yield key, answers.plain_reply(f"say.{key}", say)
    yield "a stranger", answers.plain_reply("say.refused", say, user="99")


@pytest.mark.parametrize("language", ["en", "he"])
def test_the_messages_are_the_golden_ones(language):
    parts = []
    for name, reply in messages(wording.catalog(language)):
        rows = "".join("".join(f"[{button.text}] " for button in row).rstrip() + "\n" for row in reply.buttons)
        parts.append(f"## {name}\n{reply.text}\n{rows}")
    found = "\n".join(parts)
    path = FOLDER / f"messages.{language}.txt"
    if os.environ.get("REWRITE_GOLDEN") == "1":
        path.write_text(found)
    assert found == path.read_text()


@pytest.mark.parametrize("language", ["en", "he"])
def test_no_message_shows_a_key_or_a_raw_value_and_telegram_takes_each(language):
    say = wording.catalog(language)
    for name, reply in messages(say):
        seen = visible_text(reply.text)
        assert not any(sign in seen for sign in ("{", "}", "None", "Traceback", "say.", "Scope.", "Severity.")), name
        assert len(seen) < 4096
        assert all(len(button.press.encode()) <= 64 for row in reply.buttons for button in row)


def test_in_hebrew_every_line_begins_at_the_right_and_isolates_are_closed():
    for name, reply in messages(wording.catalog("he")):
        assert reply.text.count("\u2068") == reply.text.count("\u2069"), name
        assert all(line.startswith("\u200f") for line in reply.text.split("\n") if line), name
