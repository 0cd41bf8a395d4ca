"""The mission's row "Telegram bot": people ask, acknowledge and mute in a chat, and nothing is said twice unmarked.

The alerting process on a broker, with Redis, PostgreSQL and a Bot API server over HTTP that is as strict as Telegram's.
"""

from __future__ import annotations

import signal
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest
from pydantic import SecretStr

from fleetwatch import avro, kafka, topics
from fleetwatch.local.broker import EmbeddedBroker
from fleetwatch.records import Action, Alert, AlertAction, RuleKind, Severity
from fleetwatch.settings import Settings
from sinks.migrate import migrate
from sinks.redis_cache import RedisStore
from tests.fakes.bot_api import BotApi, Message, buttons
from tests.faults.alerting import CHAT, Process, alert_of, alerting, produce
from tests.services import wait_until
from tests.unit.sinks.samples import detection, scored, stretch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

GROUP = -100
OPERATOR = 8
STRANGER = 99


@pytest.fixture
def settings(tmp_path: Path, redis_url: str, postgres_url: str) -> Iterator[Settings]:
    """A broker of the test's own, an empty cache, a migrated database."""
    migrate(postgres_url)
    with EmbeddedBroker() as broker:
        settings = Settings(
            bootstrap_servers=broker.bootstrap_servers,
            embedded_broker=True,
            state_dir=tmp_path / "state",
            redis_url=SecretStr(redis_url),
            database_url=SecretStr(postgres_url),
        )
        kafka.ensure_topics(settings)
        yield settings


@pytest.fixture
def api() -> Iterator[BotApi]:
    with BotApi(chats={CHAT, GROUP}, chat_seconds=0.9) as server:
        yield server


def stores(settings: Settings) -> dict[str, str]:
    return {
        "FLEETWATCH_REDIS_URL": settings.redis_url.get_secret_value(),
        "FLEETWATCH_DATABASE_URL": settings.database_url.get_secret_value(),
        "FLEETWATCH_SESSION_SECONDS": "4",
        "FLEETWATCH_TELEGRAM_USER_IDS": f"[{OPERATOR}]",
    }


def fill_cache(settings: Settings, *alerts: Alert) -> None:
    store = RedisStore(settings.redis_url)
    store.open()
    sightings = [detection("cam-gate-01", seq=seq) for seq in range(1, 13)]
    store.put(stretch(*sightings, scored("press-1"), *alerts))
    store.close()


def actions(settings: Settings) -> list[AlertAction]:
    found: list[AlertAction] = []
    kafka.read_to_end(settings, topics.ALERT_ACTIONS, lambda m: found.append(avro.decode(m.value(), AlertAction)))
    return found


def told(api: BotApi, words: str, *, chat: int = CHAT) -> list[Message]:
    return [message for message in api.sent if message.chat_id == chat and words in message.text]


def wait_told(api: BotApi, words: str, *, chat: int = CHAT) -> Message:
    wait_until(lambda: told(api, words, chat=chat), what=f"a message with {words!r}", timeout=20)
    return told(api, words, chat=chat)[0]


def row_states(settings: Settings) -> list[tuple[str, str, str, int]]:
    with psycopg.connect(settings.database_url.get_secret_value()) as connection:
        rows = connection.execute("SELECT lane, told, state, attempts FROM notices ORDER BY first_at").fetchall()
    return [(str(lane), str(what), str(state), int(attempts)) for lane, what, state, attempts in rows]


def test_people_ask_acknowledge_and_mute_and_it_holds_after_a_restart(  # noqa: PLR0915  # one conversation
    settings: Settings, api: BotApi
) -> None:
    started = datetime.now(UTC) - timedelta(seconds=40)
    quiet = alert_of("pump", 2, kind=RuleKind.SILENCE, value=30.0, threshold=15.0, started_at=started, summary="")
    hot = alert_of("press-1", 1, severity=Severity.CRITICAL, started_at=started)
    fill_cache(settings, quiet, hot)
    with alerting(settings, api, chats=(CHAT, GROUP), **stores(settings)) as process:
        # buttons: acknowledged once the broker has it
        produce(settings, hot)
        message = wait_told(api, "press-1-1")
        assert "CRITICAL" in message.text
        assert list(buttons(message)) == ["Acknowledge", "Mute device 1 h", "Mute rule 1 h"]
        api.press(message, buttons(message)["Acknowledge"])
        wait_until(lambda: api.query_answers, what="an answer to the press")
        assert api.query_answers == ["Acknowledged by Person."]
        (done,) = actions(settings)
        assert (done.action, done.alert_id, done.device_id) == (Action.ACKNOWLEDGE, "press-1-1", "press-1")
        wait_until(lambda: "✓ Acknowledged by Person" in buttons(told(api, "press-1-1")[0]), what="the button changed")

        # questions
        for question in ("/status", "/history cam-gate-01", "/alerts", "/dance"):
            api.say(CHAT, question)
        status = wait_told(api, "Fleet status").text
        assert "2 devices · 1 silent" in status
        assert "open alerts: 🔴 1 critical, 🟠 1 warning" in status
        assert "waiting events: streams 0, database" in status
        history = wait_told(api, "Last detections of cam-gate-01").text.splitlines()[1:]
        assert [line.split(" · ")[1] for line in history] == [f"seq {seq}" for seq in range(12, 2, -1)]
        assert history[0] == "2026-05-04 12:00:12 UTC · seq 12 · person · 90 %"
        listed = wait_told(api, "2 open alerts").text.splitlines()[1:]
        assert listed[0].startswith("1. 🔴 press-1")
        assert "acknowledged by Person" in listed[0]
        assert listed[1].startswith("2. 🟠 pump has sent nothing for 30 s")
        assert "/help" in wait_told(api, "I do not know /dance").text

        # strangers: one refusal in a chat of ours, nothing elsewhere
        for _ in range(2):
            api.say(GROUP, "/status", user_id=STRANGER)
        api.say(4711, "/status")
        api.say(GROUP, "/history nobody", user_id=OPERATOR)
        wait_told(api, "No detections of a camera called nobody", chat=GROUP)
        assert len(told(api, "You are not on the list", chat=GROUP)) == 1
        assert process.counter("strangers") == 3
        assert {message.chat_id for message in api.sent} == {CHAT, GROUP}

        # a mute, and the summary when a camera passes 200 detections
        api.say(CHAT, "/mute device press-1 1h")
        assert "device press-1 until" in wait_told(api, "Muted").text
        wait_until(lambda: process.counter("actions") == 2, what="the mute in force")
        crowd = {"kind": RuleKind.COUNT, "value": 214.0, "threshold": 200.0, "source_topic": topics.DETECTIONS}
        produce(settings, alert_of("press-1", 3), alert_of("cam-gate-01", 4, **crowd, severity=Severity.CRITICAL))
        summary = wait_told(api, "cam-gate-01 has passed 200 detections").text
        assert "2 devices · 1 silent" in summary
        assert "🔴 2 critical" in summary, "the one that caused it counts, though no sink has stored it"
        assert told(api, "cam-gate-01-4")
        assert told(api, "press-1-3") == []
        assert process.counter("muted") == 1
        assert process.stop() == 0
    logs = process.logs

    with alerting(settings, api, **stores(settings), FLEETWATCH_LANGUAGE="he") as process:
        produce(settings, alert_of("press-1", 5))
        wait_until(lambda: process.counter("muted") == 1, what="the mute of before")
        api.say(CHAT, "/unmute")
        wait_told(api, "המכשיר \u2068press-1\u2069")
        wait_until(lambda: process.counter("actions") == 3, what="the end of the mute")
        produce(settings, alert_of("press-1", 6))
        assert "התראה" in wait_told(api, "press-1-6").text
        assert told(api, "press-1-5") == []

        # a second program polls: the bot says so and waits; alerts go out all the same
        with urllib.request.urlopen(f"{api.url}/bot{api.token}/getUpdates", timeout=10):
            pass
        wait_until(lambda: any("bot_hears_nothing" in line for line in process.logs), what="the conflict in the log")
        produce(settings, alert_of("press-2", 7))
        wait_told(api, "press-2-7")
        assert "another program reads this bot's messages" in process.status()["doing"]
    output = "\n".join((*logs, *process.logs, *process.lines))
    secret = api.token.partition(":")[2]
    assert not any(word in output for word in (secret, "Traceback", "/dance", "gate-01 has passed"))
    assert all(states[2] == "sent" for states in row_states(settings))
    texts = [message.text for message in api.sent]
    assert not [text for text in texts if "{" in text or "Traceback" in text or "say." in text]


def test_killed_between_sending_and_recording_it_is_said_once_more_and_says_so(settings: Settings, api: BotApi) -> None:
    process = Process(settings, api, **stores(settings))
    try:
        process.wait_until_ready()
        produce(settings, alert_of("pump", 1))
        wait_until(
            lambda: kafka.lag_of(settings, topics.GROUP_ALERTING) and process.counter("notified_telegram") == 1,
            what="sent",
        )
        api.on_sent = lambda _message: process.popen.send_signal(signal.SIGKILL)
        produce(settings, alert_of("pump", 2))
        wait_until(lambda: process.popen.poll() is not None, what="the kill")
        api.on_sent = lambda _message: None
    finally:
        process.kill()
    assert row_states(settings) == [
        (f"telegram:{CHAT}", "FIRING", "sent", 1),
        (f"telegram:{CHAT}", "FIRING", "unknown", 1),
    ]
    with alerting(settings, api, **stores(settings)):
        produce(settings, alert_of("pump", 3))
        wait_told(api, "pump-3")
        wait_until(lambda: not sum(kafka.lag_of(settings, topics.GROUP_ALERTING).values()), what="all committed")
    assert len(told(api, "pump-1")) == 1
    first, second = told(api, "pump-2")
    assert "possible repeat" not in first.text
    assert "🔁 possible repeat" in second.text
    assert [row[2:] for row in row_states(settings)] == [("sent", 1), ("sent", 2), ("sent", 1)]
