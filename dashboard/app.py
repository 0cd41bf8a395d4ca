"""The main script that Streamlit runs for every visitor: style, language, navigation, and the page asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from dashboard import (
    alerts_page,
    cameras_page,
    device_page,
    fleet_page,
    frame,
    language,
    markup,
    models_page,
    pipeline_page,
)
from dashboard import sources as wiring
from fleetwatch.records import from_millis

if TYPE_CHECKING:
    from fleetwatch.i18n import Texts

HERE = Path(__file__).parent
PAGES = {
    "fleet": fleet_page.render,
    "device": device_page.render,
    "cameras": cameras_page.render,
    "alerts": alerts_page.render,
    "models": models_page.render,
    "pipeline": pipeline_page.render,
}


@frame.part
def clock(say: Texts) -> None:
    """Show whether the view is live, and the time."""
    mark = (
        f'<span class="fw-lost">▲ {say("top.interrupted")}</span>'
        if wiring.sources().live.problems
        else f'<span class="fw-live">● {say("top.live")}</span>'
    )
    time = say.isolate(f"{from_millis(frame.now_ms()):%H:%M:%S} UTC")
    frame.draw(f'<div class="fw-clock">{mark} · <span>{time}</span></div>', say)


@frame.part
def troubles(say: Texts) -> None:
    """Show what cannot be reached."""
    frame.draw(markup.notices(wiring.sources().live.problems, say), say)


st.set_page_config(page_title="Fleetwatch", page_icon=str(HERE / "icon.png"), layout="wide")
st.html(f"<style>{(HERE / 'style.css').read_text(encoding='utf-8')}</style>")
with st.container(key="top", horizontal=True, vertical_alignment="center"):
    brand, links, live, tongue = (st.container(key=f"top-{name}") for name in ("brand", "links", "clock", "language"))
with tongue:
    language.switch()
say = language.say()
pages = {
    name: st.Page(render, title=say(f"page.{name}"), url_path=name, default=name == "fleet")
    for name, render in PAGES.items()
}
page = st.navigation(list(pages.values()), position="hidden")
if frame.GOAL in st.session_state:
    goal, query = st.session_state.pop(frame.GOAL)
    st.switch_page(pages[goal], query_params=query | frame.kept())
with brand:
    frame.draw(f'<div class="fw-title" data-direction="{say.direction}">Fleetwatch</div>', say)
with links, st.container(key="links", horizontal=True):
    for name, one in pages.items():
        st.page_link(one, query_params=frame.kept(name) or None)
with live:
    clock()
troubles()
page.run()
