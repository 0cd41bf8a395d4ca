"""The page of the whole fleet: figures, filters, and a card for each sensor, the neediest first.

Thin: what is shown is decided in ``attention`` and ``views``. Filters live in the address: a reload keeps them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import streamlit as st

from dashboard import address, frame, look, markup, views
from dashboard import sources as wiring
from dashboard.attention import assess, choose, standstill_ms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetwatch.i18n import Texts


def render() -> None:
    """Draw the page."""
    figures()
    fleet()


@frame.part
def figures(say: Texts) -> None:
    """Show the four big figures."""
    board = wiring.sources().live.board
    now_ms = frame.now_ms()
    cards = assess(board, now_ms=now_ms)
    if standstill := standstill_ms(board, now_ms=now_ms):
        text = say("fleet.standstill", span=look.duration(timedelta(seconds=standstill // 1000), say))
        frame.draw(markup.notice(text), say)
    frame.draw(markup.figures_html(views.headlines(board, cards, say, now_ms=now_ms)), say)


@frame.part
def fleet(say: Texts) -> None:
    """Show filters and one card for each device; a click on it leads to its page."""
    board = wiring.sources().live.board
    now_ms = frame.now_ms()
    cards = assess(board, now_ms=now_ms)
    if not cards:
        frame.draw(views.empty_html(say), say)
        return
    title, by_site, by_type, by_name = st.columns([2, 2, 2, 2], vertical_alignment="center")
    with by_site:
        sites = st.multiselect(
            say("filter.site"), _options("site", (card.device.site for card in cards)),
            placeholder=say("filter.all-sites"), format_func=say.isolate, label_visibility="collapsed",
            **address.many("site"),
        )  # fmt: skip
    with by_type:
        sensor_types = st.multiselect(
            say("filter.type"), _options("type", (card.device.sensor_type for card in cards)),
            placeholder=say("filter.all-types"), format_func=lambda name: markup.word(say, "type", name),
            label_visibility="collapsed", **address.many("type"),
        )  # fmt: skip
    with by_name:
        search = st.text_input(
            say("filter.search"), placeholder=say("filter.part-of-id"), label_visibility="collapsed",
            **address.text("search"),
        )  # fmt: skip
    matching = choose(cards, sites=sites, sensor_types=sensor_types, search=search)
    with title:
        shown = say("fleet.shown", shown=look.whole(len(matching)), count=len(cards))
        frame.draw(markup.heading(say("page.fleet"), shown), say)
    with st.container(key="fleet-grid"):
        for place, card in enumerate(matching[: views.MAX_CARDS]):
            device_id = card.device.device_id
            with st.container(key=f"fleet-card-{place}"):
                frame.draw(views.card_html(card, say, now_ms=now_ms), say)
                if st.button(
                    say("fleet.show", device=device_id),
                    key=f"show {device_id}",
                    on_click=lambda device_id=device_id: frame.go("device", device=device_id),
                ):
                    st.rerun()  # the navigation is outside of this fragment
    if not matching:
        frame.draw(markup.empty(say("fleet.no-match")), say)
    if (more := len(matching) - views.MAX_CARDS) > 0:
        frame.draw(f'<div class="fw-more">{say("fleet.more", count=more)}</div>', say)


def _options(key: str, names: Iterable[str]) -> list[str]:
    """Return what can be chosen, and what is chosen: it may not have reported yet."""
    chosen = st.session_state[key] if key in st.session_state else st.query_params.get_all(key)
    return sorted({*names, *chosen})
