"""The page of the alerts: open ones with their acknowledgement, and those that are over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import streamlit as st

from dashboard import address, alert_views, device_page, frame, markup
from dashboard import sources as wiring
from dashboard.actions import LONGEST_NAME, acknowledgement
from dashboard.problems import AwayError
from fleetwatch.records import Severity

if TYPE_CHECKING:
    from dashboard.event_reads import PastAlerts
    from fleetwatch.i18n import Texts
    from fleetwatch.records import Alert, AlertAction

RANGES: Final = {
    "24 h": timedelta(days=1),
    "7 d": timedelta(days=7),
    "30 d": timedelta(days=30),
}
DEFAULT_RANGE: Final = "24 h"
SEVERITIES: Final = [severity.value for severity in reversed(Severity)]
DONE_HERE: Final = "acknowledged here"
OUTCOME: Final = "outcome of the last click"


def render() -> None:
    """Draw the page."""
    filters()
    open_part()
    past_filter()
    past_part()


def filters() -> None:
    """Who is looking, and which alerts: the filters are kept in the address."""
    say = frame.texts()
    left, middle, right = st.columns([1, 1, 1], vertical_alignment="bottom")
    with left:
        st.pills(
            say("alerts.severities"), SEVERITIES, selection_mode="multi", label_visibility="collapsed",
            format_func=lambda name: say(f"severity.{name}"), **address.many("severity", SEVERITIES),
        )  # fmt: skip
    with middle:
        st.text_input(
            say("filter.search"), placeholder=say("filter.part-of-id"), label_visibility="collapsed",
            **address.text("find"),
        )  # fmt: skip
    with right:
        st.text_input(
            say("alerts.name"), key="who", placeholder=say("alerts.name"), label_visibility="collapsed",
            max_chars=LONGEST_NAME,
        )  # fmt: skip


@frame.part
def open_part(say: Texts) -> None:
    """Show the open alerts, each with a button to acknowledge it."""
    board = wiring.sources().live.board
    now_ms = frame.now_ms()
    here: dict[str, AlertAction] = st.session_state.setdefault(DONE_HERE, {})
    taken = alert_views.acknowledged(board, here)
    alerts = alert_views.open_alerts(board, taken, _severities(), st.session_state.get("find") or "")
    note = say("alerts.open-note", count=len(alerts)) if alerts else ""
    frame.draw(markup.heading(say("alerts.open"), note), say)
    if outcome := st.session_state.get(OUTCOME):
        kind, key, values = outcome
        text = say(key, **values)
        frame.draw(markup.done(text) if kind == "done" else markup.notice(text), say)
    if not alerts:
        frame.draw(markup.empty(say("alerts.none-open")), say)
    with st.container(key="alert-list"):
        for place, alert in enumerate(alerts[: alert_views.MAX_OPEN]):
            action = taken.get(alert.alert_id)
            with st.container(key=f"alert-row-{place}"):
                frame.draw(alert_views.open_html(alert, action, say, now_ms=now_ms), say)
                if action is None and st.button(
                    say("alerts.acknowledge"), key=f"acknowledge {alert.alert_id}", on_click=_acknowledge, args=(alert,)
                ):
                    pass  # the callback has done it
    if (more := len(alerts) - alert_views.MAX_OPEN) > 0:
        frame.draw(f'<div class="fw-more">{say("alerts.more-open", count=more)}</div>', say)


def past_filter() -> None:
    """Title and range of the past."""
    say = frame.texts()
    left, right = st.columns([1, 1], vertical_alignment="bottom")
    with left:
        frame.draw(markup.heading(say("alerts.past")), say)
    with right:
        st.segmented_control(
            say("device.range"), list(RANGES), format_func=lambda name: device_page.range_text(name, say),
            label_visibility="collapsed", required=True, **address.one("past", DEFAULT_RANGE, RANGES),
        )  # fmt: skip


@frame.part
def past_part(say: Texts) -> None:
    """Show the alerts that are over, from the database."""
    span = RANGES.get(st.session_state.get("past") or DEFAULT_RANGE, RANGES[DEFAULT_RANGE])
    severities = tuple(_severities()) or tuple(Severity)
    frame.draw(alert_views.past_html(_past(span, severities), say), say)


def _severities() -> set[Severity]:
    return {Severity(name) for name in st.session_state.get("severity") or ()}


def _acknowledge(alert: Alert) -> None:
    """Send the acknowledgement; what became of it is said at the next draw."""
    action = acknowledgement(alert, who=st.session_state.get("who") or "", at=datetime.now(UTC))
    outcome: tuple[str, str, dict[str, Any]]
    try:
        wiring.sources().desk.send(action)
    except AwayError as error:
        outcome = ("failed", error.problem.key, dict(error.problem.values))
    else:
        st.session_state.setdefault(DONE_HERE, {})[alert.alert_id] = action
        outcome = ("done", "alerts.delivered", {"device": alert.device_id})
    st.session_state[OUTCOME] = outcome


@st.cache_data(ttl=1.5, max_entries=50, show_spinner=False)
def _past(span: timedelta, severities: tuple[Severity, ...]) -> PastAlerts:
    return wiring.sources().past.past_alerts(datetime.now(UTC) - span, severities)
