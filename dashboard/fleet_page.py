"""The page of the whole fleet: figures, one device's history, open alerts, devices, cameras.

Thin: what is shown is decided in ``attention`` and ``views``. Each part that moves is a fragment of its own
with a timer; the choice of the device and the filters live in the address: a reload and a link keep them.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import streamlit as st

from dashboard import charts, views
from dashboard import sources as wiring
from dashboard.attention import alerts_by_need, assess, choose, natural
from dashboard.look import whole
from dashboard.reads import MAX_NAMES, History
from fleetwatch.errors import TransientError
from fleetwatch.records import from_millis

if TYPE_CHECKING:
    from dashboard.live import Board

REFRESH_SECONDS: Final = 2.0
RANGES: Final = {
    "15 min": timedelta(minutes=15),
    "1 h": timedelta(hours=1),
    "6 h": timedelta(hours=6),
    "24 h": timedelta(days=1),
    "7 d": timedelta(days=7),
    "30 d": timedelta(days=30),
}
DEFAULT_RANGE: Final = "15 min"


def render() -> None:
    """Draw the page."""
    top()
    history_side, alert_side = st.columns([3, 2], gap="medium")
    with history_side:
        choose_device()
        device_history()
    with alert_side:
        open_alerts()
    fleet()
    cameras()


@st.fragment(run_every=REFRESH_SECONDS)
def top() -> None:
    """Title, clock, notices and the big figures."""
    live = wiring.sources().live
    now_ms = _now_ms()
    problems = live.problems
    state = '<span class="fw-lost">▲ Interrupted</span>' if problems else '<span class="fw-live">● Live</span>'
    st.html(
        '<div class="fw-top"><span class="fw-title">Fleetwatch</span>'
        f'<span class="fw-clock">{state} · {from_millis(now_ms):%H:%M:%S} UTC</span></div>'
    )
    if problems:
        st.html(views.notices_html(problems))
    board = live.board
    st.html(views.headline_html(views.headlines(board, assess(board, now_ms=now_ms), now_ms=now_ms)))


def choose_device() -> None:
    """Select box and range: both are kept in the address."""
    board = wiring.sources().live.board
    chosen = {name for name in (st.session_state.get("device"), st.query_params.get("device")) if name}
    names = sorted({*_stored_names(), *list(board.devices)[:MAX_NAMES], *chosen}, key=natural)
    left, right = st.columns([1, 1], vertical_alignment="bottom")
    with left:
        st.selectbox(
            "Device",
            names,
            index=None,
            key="device",
            bind="query-params",
            placeholder="The one that most needs attention",
        )
    with right:
        st.segmented_control(
            "Range",
            list(RANGES),
            default=DEFAULT_RANGE,
            key="range",
            bind="query-params",
            label_visibility="collapsed",
        )


@st.fragment(run_every=REFRESH_SECONDS)
def device_history() -> None:
    """Values, anomalies and scores of the chosen device, from the database."""
    device_id = _selected(wiring.sources().live.board)
    if device_id is None:
        st.html('<div class="fw-empty">The history of a device is shown here as soon as one has reported.</div>')
        return
    span = RANGES.get(st.session_state.get("range") or DEFAULT_RANGE, RANGES[DEFAULT_RANGE])
    try:
        history = _history(device_id, span)
    except TransientError as error:
        st.html(views.notices_html([str(error)]))
        return
    if history is None:
        st.html(views.nothing_stored_html(device_id))
        return
    st.html(views.history_title_html(history, now_ms=_now_ms()))
    st.altair_chart(charts.value_chart(history), key="values")
    st.altair_chart(charts.score_chart(history), key="scores")


@st.fragment(run_every=REFRESH_SECONDS)
def open_alerts() -> None:
    """Show the open alerts, and below them what the cameras see."""
    board = wiring.sources().live.board
    alerts = alerts_by_need(board)
    st.html(f'<div class="fw-heading">Open alerts <small>{len(alerts) or ""}</small></div>')
    st.html(views.alerts_html(alerts, now_ms=_now_ms()))
    if labels := views.labels_html(board):
        st.html(labels)


@st.fragment(run_every=REFRESH_SECONDS)
def fleet() -> None:
    """Show filters and one card for each device."""
    board = wiring.sources().live.board
    now_ms = _now_ms()
    cards = assess(board, now_ms=now_ms)
    if not cards:
        st.html('<div class="fw-heading">Fleet</div>')
        st.html(views.empty_html())
        return
    title, by_site, by_type, by_name = st.columns([2, 2, 2, 2], vertical_alignment="center")
    with by_site:
        sites = st.multiselect(
            "Site", sorted({card.device.site for card in cards}), key="site", placeholder="All sites",
            label_visibility="collapsed", bind="query-params",
        )  # fmt: skip
    with by_type:
        sensor_types = st.multiselect(
            "Type", sorted({card.device.sensor_type for card in cards}), key="type", placeholder="All types",
            label_visibility="collapsed", bind="query-params",
        )  # fmt: skip
    with by_name:
        search = st.text_input(
            "Search",
            key="search",
            placeholder="Part of a device id",
            label_visibility="collapsed",
            bind="query-params",
        )
    matching = choose(cards, sites=sites, sensor_types=sensor_types, search=search)
    with title:
        st.html(
            f'<div class="fw-heading">Fleet <small>{whole(len(matching))} of {whole(len(cards))} sensors,'
            " the neediest first</small></div>"
        )
    selected = _selected(board)
    with st.container(key="fleet-grid"):
        for place, card in enumerate(matching[: views.MAX_CARDS]):
            device_id = card.device.device_id
            with st.container(key=f"fleet-card-{place}"):
                st.html(views.card_html(card, now_ms=now_ms, is_selected=device_id == selected))
                if st.button(
                    f"Show the history of {device_id}",
                    key=f"show {device_id}",
                    on_click=_select,
                    args=(device_id,),
                ):
                    st.rerun()  # the select box is outside of this fragment
    if not matching:
        st.html('<div class="fw-empty">No device matches these filters.</div>')
    if len(matching) > views.MAX_CARDS:
        st.html(
            f'<div class="fw-more">and {whole(len(matching) - views.MAX_CARDS)} more devices: '
            "filter by site, type or a part of the id to see them</div>"
        )


@st.fragment(run_every=REFRESH_SECONDS)
def cameras() -> None:
    """Show one card for each camera."""
    board = wiring.sources().live.board
    if not board.cameras:
        return
    st.html(f'<div class="fw-heading">Cameras <small>{whole(len(board.cameras))}</small></div>')
    st.html(views.cameras_html(board, now_ms=_now_ms()))


def _select(device_id: str) -> None:
    st.session_state["device"] = device_id


def _selected(board: Board) -> str | None:
    """Return the chosen device; without a choice the neediest, and then the same one for the whole visit."""
    if chosen := st.session_state.get("device"):
        return str(chosen)
    followed = st.session_state.get("followed")
    if followed not in board.devices:
        cards = assess(board, now_ms=_now_ms())
        followed = cards[0].device.device_id if cards else None
        st.session_state["followed"] = followed
    return followed


@st.cache_data(ttl=1.5, max_entries=200, show_spinner=False)
def _history(device_id: str, span: timedelta) -> History | None:
    return wiring.sources().past.history(device_id, span)


def _stored_names() -> list[str]:
    try:
        return _cached_names()
    except TransientError:
        return []  # the live ones are there, and the history says what is wrong


@st.cache_data(ttl=30, show_spinner=False)
def _cached_names() -> list[str]:
    return wiring.sources().past.sensor_names()


def _now_ms() -> int:
    return int(time.time() * 1000)
