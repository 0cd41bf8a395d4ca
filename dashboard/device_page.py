"""The page of one device: values with anomalies and both scores, from the database: a reload keeps them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import streamlit as st

from dashboard import address, charts, device_views, frame, markup
from dashboard import sources as wiring
from dashboard.attention import assess, natural
from dashboard.problems import AwayError
from dashboard.reads import MAX_NAMES, History

if TYPE_CHECKING:
    from dashboard.live import Board
    from fleetwatch.i18n import Texts

RANGES: Final = {
    "15 min": timedelta(minutes=15),
    "1 h": timedelta(hours=1),
    "6 h": timedelta(hours=6),
    "24 h": timedelta(days=1),
    "7 d": timedelta(days=7),
    "30 d": timedelta(days=30),
}
"""As they stand in the address -> how long."""
DEFAULT_RANGE: Final = "15 min"


def render() -> None:
    """Draw the page."""
    choose()
    device()


def choose() -> None:
    """Select box and range: both are kept in the address."""
    say = frame.texts()
    board = wiring.sources().live.board
    chosen = {name for name in (address.chosen("device"),) if name}
    names = sorted({*_stored_names(), *list(board.devices)[:MAX_NAMES], *chosen}, key=natural)
    left, right = st.columns([1, 1], vertical_alignment="bottom")
    with left:
        st.selectbox(
            say("device.choose"), names, index=None, format_func=say.isolate,
            placeholder=say("device.neediest"), label_visibility="collapsed", **address.one("device"),
        )  # fmt: skip
    with right:
        st.segmented_control(
            say("device.range"), list(RANGES), format_func=lambda name: range_text(name, say),
            label_visibility="collapsed", required=True, **address.one("range", DEFAULT_RANGE, RANGES),
        )  # fmt: skip


def range_text(name: str, say: Texts) -> str:
    """Write a range as it is offered."""
    number, unit = name.split()
    return say(f"range.{unit}", n=number)


@frame.part
def device(say: Texts) -> None:
    """Values, anomalies and scores of the chosen device."""
    board = wiring.sources().live.board
    now_ms = frame.now_ms()
    device_id = _selected(board)
    if device_id is None:
        frame.draw(markup.empty(say("device.none")), say)
        return
    st.session_state[frame.KEPT_DEVICE] = device_id
    card = next((one for one in assess(board, now_ms=now_ms) if one.device.device_id == device_id), None)
    span = RANGES.get(st.session_state.get("range") or DEFAULT_RANGE, RANGES[DEFAULT_RANGE])
    try:
        history = _history(device_id, span)
    except AwayError as error:
        frame.draw(device_views.title_html(device_id, card, None, say), say)
        frame.draw(markup.notices([error.problem], say), say)
        return
    frame.draw(device_views.title_html(device_id, card, history, say), say)
    if history is None:
        frame.draw(device_views.nothing_stored_html(device_id, say), say)
        return
    frame.draw(markup.figures_html(device_views.figures(card, history, say, now_ms=now_ms)), say)
    frame.draw(device_views.history_note_html(history, say, now_ms=now_ms), say)
    st.altair_chart(charts.value_chart(history, say), key="values")
    st.altair_chart(charts.score_chart(history, say), key="scores")
    frame.draw(markup.heading(say("device.newest-anomalies")), say)
    frame.draw(device_views.anomalies_html(history, say), say)


def _selected(board: Board) -> str | None:
    """Return the chosen device, else the one that most needed attention when the page was opened."""
    if chosen := address.chosen("device"):
        return str(chosen)
    followed = st.session_state.get("followed")
    if followed not in board.devices:
        cards = assess(board, now_ms=frame.now_ms())
        followed = cards[0].device.device_id if cards else None
        st.session_state["followed"] = followed
    return followed


@st.cache_data(ttl=1.5, max_entries=200, show_spinner=False)
def _history(device_id: str, span: timedelta) -> History | None:
    return wiring.sources().past.history(device_id, span)


def _stored_names() -> list[str]:
    try:
        return _cached_names()
    except AwayError:
        return []  # the live ones are there, and the history says what is wrong


@st.cache_data(ttl=30, show_spinner=False)
def _cached_names() -> list[str]:
    return wiring.sources().past.sensor_names()
