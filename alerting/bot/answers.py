"""What the bot answers, in Telegram's HTML. Pure; names from outside are made safe here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from alerting import render, wording
from alerting.bot.commands import LONGEST_MUTE, USAGE, Misunderstood, Wrong
from alerting.bot.presses import numbered_buttons
from alerting.muting import Scope
from alerting.ports import Reply
from fleetwatch.records import Severity

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from alerting.fleet import FleetStatus, Sighting
    from alerting.muting import Mute, Standing, Target
    from fleetwatch.i18n import Texts
    from fleetwatch.records import Alert

MOST_LISTED: Final = 10
MOST_BUTTONS: Final = 8
MOST_NAMES: Final = 30
_HEADLINE: Final = 120
_BEFORE: Final = {"status": "📊", "history": "📷", "alerts": "🔔", "mute": "🔕", "unmute": "🔔", "help": "❔"}


def help_reply(say: Texts, *, welcome: bool) -> Reply:
    """Return what can be asked."""
    lines = [f"<b>{_safe(say('help.title'))}</b>"]
    for name, usage in USAGE.items():
        if name != "help":
            lines.append(f"{_BEFORE[name]} {_safe(say.isolate(usage))}: {_safe(say(f'help.{name}'))}")
    if welcome:
        lines[:0] = [_safe(say("help.welcome")), ""]
    return _reply(lines, say)


def status_reply(status: FleetStatus, mutes: Sequence[Mute], say: Texts) -> Reply:
    """Return how the fleet is, and what is muted."""
    lines = [f"<b>{_safe(say('status.title', time=wording.time_text(status.at, status.at)))}</b>"]
    lines += _status_lines(status, say)
    if mutes:
        muted = ", ".join(mute_text(mute, status.at, say) for mute in mutes[:MOST_LISTED])
        lines.append("🔕 " + _safe(say("status.muted", list=muted)))
    return _reply(lines, say)


def summary_html(status: FleetStatus, alert: Alert, now: datetime, say: Texts, *, is_repeat: bool = False) -> str:
    """Return the summary that is sent when a camera has passed so many detections."""
    camera = wording.clean(alert.device_id, render.NAME_LENGTH)
    crossing = say("status.summary", camera=camera, limit=wording.value_text(alert.threshold, say))
    lines = [
        f"📊 <b>{_safe(crossing)}</b>",
        _safe(say("status.title", time=wording.time_text(status.at, now))),
        *_status_lines(status, say),
        f"{_safe(say('alert.id'))} <code>{_safe(render.alert_id_text(alert))}</code>",
    ]
    if is_repeat:
        lines.append(f"{render.REPEAT_ICON} {_safe(say('alert.repeat'))}")
    return _reply(lines, say).text


def history_reply(camera: str, sightings: Sequence[Sighting], now: datetime, say: Texts) -> Reply:
    """Return the newest detections of a camera, newest first."""
    name = wording.clean(camera, render.NAME_LENGTH)
    if not sightings:
        return _reply([_safe(say("history.none", camera=name))], say)
    lines = [f"<b>{_safe(say('history.title', camera=name))}</b>"]
    for seen in sightings:
        row = say(
            "history.row",
            time=wording.time_text(seen.time, now),
            seq=str(seen.seq),
            label=wording.clean(seen.label, 40),
            confidence=f"{seen.confidence * 100:.0f}",
        )
        lines.append(_safe(row))
    return _reply(lines, say)


def cameras_reply(names: Sequence[str], say: Texts) -> Reply:
    """Return which cameras there are, for who asked for none."""
    lines = [_safe(say("history.which"))]
    if names:
        clean = (say.isolate(wording.clean(name, render.NAME_LENGTH)) for name in names[:MOST_NAMES])
        lines.append(_safe(say("history.known", list=", ".join(clean))))
    return _reply(lines, say)


def alerts_reply(alerts: Sequence[Alert], standing: Standing, now: datetime, say: Texts) -> Reply:
    """Return the open alerts, which come gravest first, with a button for those that nobody has acknowledged."""
    if not alerts:
        return _reply(["✅ " + _safe(say("alerts.none"))], say)
    lines = [f"<b>{_safe(say('alerts.title', count=len(alerts)))}</b>"]
    unacknowledged: list[tuple[int, Alert]] = []
    for number, alert in enumerate(alerts[:MOST_LISTED], start=1):
        parts = [
            wording.headline(alert, say, _HEADLINE),
            say("alerts.since", duration=wording.duration_text(now - alert.started_at, say)),
        ]
        if acknowledged := standing.acknowledged.get(alert.alert_id):
            parts.append(say("alerts.acknowledged", who=wording.clean(acknowledged.who, 60)))
        else:
            unacknowledged.append((number, alert))
        mark = " 🔕" if standing.mute_of(alert, now) else ""
        code = f"<code>{_safe(render.alert_id_text(alert))}</code>"
        lines.append(f"{number}. {render.icon(alert)} {_safe(', '.join(parts))}{mark} {code}")
    if len(alerts) > MOST_LISTED:
        lines.append(_safe(say("alerts.more", count=len(alerts) - MOST_LISTED)))
    return Reply(text=_reply(lines, say).text, buttons=numbered_buttons(unacknowledged[:MOST_BUTTONS], say))


def muted_reply(mute: Mute, now: datetime, say: Texts, *, is_seen: bool) -> Reply:
    """Return that a mute has been recorded; ``is_seen`` False warns of a name that nothing is known of."""
    assert mute.until is not None
    done = say(
        "mute.done",
        what=target_text(mute.target, say),
        time=wording.time_text(mute.until, now),
        who=wording.clean(mute.who, 60),
    )
    lines = ["🔕 " + _safe(_capital(done))]
    if not is_seen:
        lines.append("⚠️ " + _safe(say("mute.unseen")))
    return _reply(lines, say)


def mute_over_reply(until: datetime, now: datetime, say: Texts) -> Reply:
    """Return that a mute was asked for so long ago that it has ended."""
    return _reply([_safe(say("mute.over", time=wording.time_text(until, now)))], say)


def unmuted_reply(targets: Sequence[Target], who: str, open_count: int | None, say: Texts) -> Reply:
    """Return what is not muted any more, and how many alerts are open (None: not known)."""
    what = ", ".join(target_text(target, say) for target in targets[:MOST_LISTED])
    lines = ["🔔 " + _safe(say("mute.lifted", what=what, who=wording.clean(who, 60)))]
    if open_count:
        lines.append(_safe(say("mute.open", count=open_count)))
    return _reply(lines, say)


def not_muted_reply(target: Target | None, say: Texts) -> Reply:
    """Return that there was nothing to lift."""
    if target is None:
        return _reply([_safe(say("mute.nothing"))], say)
    return _reply([_safe(_capital(say("mute.not_muted", what=target_text(target, say))))], say)


def misunderstood_reply(wrong: Misunderstood, say: Texts) -> Reply:
    """Return what is wrong with a command."""
    said = wording.clean(wrong.said, 60)
    if wrong.why is Wrong.UNKNOWN:
        return _reply([_safe(say("say.unknown_command", command=said))], say)
    if wrong.why is Wrong.DURATION:
        return _reply([_safe(say("say.bad_duration", duration=said))], say)
    return _reply([_safe(say("say.usage", usage=said))], say)


def plain_reply(key: str, say: Texts, **values: str) -> Reply:
    """Return one text of the catalog."""
    return _reply([_safe(say(key, **values))], say)


def mute_text(mute: Mute, now: datetime, say: Texts) -> str:
    """Return what is muted and until when."""
    what = target_text(mute.target, say)
    if mute.until is None:
        return say("mute.for_ever", what=what)
    return say("mute.until", what=what, time=wording.time_text(mute.until, now))


def target_text(target: Target, say: Texts) -> str:
    """Return what a mute is for."""
    if target.scope is Scope.ALL:
        return say("mute.ALL")
    return say(f"mute.{target.scope.value}", name=wording.clean(target.name, render.NAME_LENGTH))


def _status_lines(status: FleetStatus, say: Texts) -> list[str]:
    lines = [_safe(f"{say('status.devices', count=status.devices)} · {say('status.silent', count=status.silent)}")]
    counts = [(severity, status.open_alerts.get(severity, 0)) for severity in reversed(Severity)]
    if any(count for _, count in counts):
        parts = (
            f"{render.ICONS[severity]} "
            + say("status.severity", number=count, severity=say(f"severity.{severity.value}").lower())
            for severity, count in counts
            if count
        )
        lines.append(_safe(say("status.open", list=", ".join(parts))))
    else:
        lines.append("✅ " + _safe(say("status.no_alerts")))
    if status.lag is not None:
        lag = status.lag
        lines.append(_safe(say("status.lag", streams=lag.streams, database=lag.database, cache=lag.cache)))
    return lines


def _reply(lines: Sequence[str], say: Texts) -> Reply:
    return Reply(text="\n".join(wording.line_of(line, say) if line else "" for line in lines))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _safe(text: str) -> str:
    return render.escape(text)


assert LONGEST_MUTE.days == 7, "the texts of help and of a wrong duration say 7d"
