"""The page of the cameras: cards, and of one camera its counts by label and its newest detections."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import streamlit as st

from dashboard import address, camera_views, charts, device_page, frame, markup
from dashboard import sources as wiring
from dashboard.attention import natural
from dashboard.problems import AwayError

if TYPE_CHECKING:
    from dashboard.event_reads import Sightings
    from dashboard.live import Board
    from fleetwatch.i18n import Texts

RANGES: Final = {
    "15 min": timedelta(minutes=15),
    "1 h": timedelta(hours=1),
    "6 h": timedelta(hours=6),
}
DEFAULT_RANGE: Final = "15 min"


def render() -> None:
    """Draw the page."""
    cameras()
    choose()
    one_camera()


@frame.part
def cameras(say: Texts) -> None:
    """Show a card for each camera; a click chooses it."""
    board = wiring.sources().live.board
    now_ms = frame.now_ms()
    ordered = camera_views.cameras_by_need(board)
    frame.draw(markup.heading(say("page.cameras"), say("count.cameras", count=len(ordered))), say)
    if not ordered:
        frame.draw(markup.empty(say("camera.none")), say)
        return
    alerts = camera_views.alerts_by_device(board)
    selected = _selected(board)
    with st.container(key="camera-grid"):
        for place, camera in enumerate(ordered[: camera_views.MAX_CAMERA_CARDS]):
            camera_id = camera.camera_id
            with st.container(key=f"camera-card-{place}"):
                frame.draw(
                    camera_views.card_html(
                        camera, alerts[camera_id], say, now_ms=now_ms, is_selected=camera_id == selected
                    ),
                    say,
                )
                if st.button(
                    say("camera.show", camera=camera_id), key=f"show {camera_id}", on_click=_choose, args=(camera_id,)
                ):
                    st.rerun()  # the select box is outside of this fragment
    if (more := len(ordered) - camera_views.MAX_CAMERA_CARDS) > 0:
        frame.draw(f'<div class="fw-more">{say("camera.more", count=more)}</div>', say)


def choose() -> None:
    """Select box and range: both are kept in the address."""
    say = frame.texts()
    board = wiring.sources().live.board
    chosen = {name for name in (address.chosen("camera"),) if name}
    left, right = st.columns([1, 1], vertical_alignment="bottom")
    with left:
        st.selectbox(
            say("camera.choose"), sorted({*board.cameras, *chosen}, key=natural), index=None,
            format_func=say.isolate, placeholder=say("camera.first"), label_visibility="collapsed",
            **address.one("camera"),
        )  # fmt: skip
    with right:
        st.segmented_control(
            say("device.range"), list(RANGES), format_func=lambda name: device_page.range_text(name, say),
            label_visibility="collapsed", required=True, **address.one("range", DEFAULT_RANGE, RANGES),
        )  # fmt: skip


@frame.part
def one_camera(say: Texts) -> None:
    """Show counts by label and the newest detections of the chosen camera."""
    board = wiring.sources().live.board
    camera_id = _selected(board)
    if camera_id is None:
        return
    st.session_state[frame.KEPT_CAMERA] = camera_id
    span = RANGES.get(st.session_state.get("range") or DEFAULT_RANGE, RANGES[DEFAULT_RANGE])
    sightings, problem = None, None
    try:
        sightings = _sightings(camera_id, span)
    except AwayError as error:
        problem = error.problem
    events = camera_views.newest_of(board.cameras.get(camera_id), sightings)
    left, right = st.columns([1, 1], gap="medium")
    with left:
        frame.draw(markup.heading(say("camera.by-label"), camera_id_of(camera_id, say)), say)
        if problem is not None:
            frame.draw(markup.notices([problem], say), say)
        elif sightings is None:
            frame.draw(markup.empty(say("camera.nothing-stored", camera=camera_id)), say)
        else:
            frame.draw(camera_views.labels_html(sightings, say), say)
            st.altair_chart(charts.label_chart(sightings, say), key="labels")
        frame.draw(camera_views.all_labels_html(board, say), say)
    with right:
        frame.draw(markup.heading(say("camera.newest"), camera_id_of(camera_id, say)), say)
        frame.draw(f'<div data-events="{len(events)}">{camera_views.events_html(events, say)}</div>', say)


def camera_id_of(camera_id: str, say: Texts) -> str:
    """Write the camera beside a title."""
    return say.isolate(camera_id)


def _choose(camera_id: str) -> None:
    st.session_state["camera"] = camera_id
    st.query_params["camera"] = camera_id


def _selected(board: Board) -> str | None:
    if chosen := address.chosen("camera"):
        return str(chosen)
    followed = st.session_state.get("followed camera")
    if followed not in board.cameras:
        ordered = camera_views.cameras_by_need(board)
        followed = ordered[0].camera_id if ordered else None
        st.session_state["followed camera"] = followed
    return followed


@st.cache_data(ttl=1.5, max_entries=200, show_spinner=False)
def _sightings(camera_id: str, span: timedelta) -> Sightings | None:
    return wiring.sources().past.sightings(camera_id, span)
