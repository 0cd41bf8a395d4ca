"""The page of the pipeline: what waits where, how fast it flows, what was refused, and whether every part is well."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import streamlit as st

from dashboard import frame, markup, pipeline_views
from dashboard import sources as wiring

if TYPE_CHECKING:
    from dashboard.event_reads import RefusalCount
    from fleetwatch.i18n import Texts

LATELY: Final = timedelta(days=1)


def render() -> None:
    """Draw the page."""
    flow()
    dead_letters()


@frame.part
def flow(say: Texts) -> None:
    """Show figures, parts, lag and rates."""
    sources = wiring.sources()
    seen = sources.offsets.seen()
    figures = pipeline_views.figures(seen, sources.live.board, say, now_ms=frame.now_ms())
    frame.draw(markup.figures_html(figures), say)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        frame.draw(markup.heading(say("pipeline.parts")), say)
        frame.draw(pipeline_views.parts_html(seen, say, is_live=sources.live.is_running), say)
    with right:
        frame.draw(markup.heading(say("pipeline.rates"), say("pipeline.rates-note")), say)
        frame.draw(pipeline_views.rates_html(seen, say), say)
    frame.draw(markup.heading(say("pipeline.lag"), say("pipeline.lag-note")), say)
    frame.draw(pipeline_views.lag_html(seen, say), say)


@frame.part
def dead_letters(say: Texts) -> None:
    """Show what was refused: the newest, live, and the last day by reason, from the database."""
    refusals = wiring.sources().live.board.notes.refusals
    frame.draw(markup.heading(say("pipeline.newest-dead-letters")), say)
    frame.draw(pipeline_views.refusals_html(refusals, say), say)
    frame.draw(markup.heading(say("pipeline.by-reason"), say("pipeline.by-reason-note")), say)
    frame.draw(pipeline_views.reasons_html(_reasons(), say, now_ms=frame.now_ms()), say)


@st.cache_data(ttl=1.5, show_spinner=False)
def _reasons() -> list[RefusalCount]:
    return wiring.sources().past.refusals(datetime.now(UTC) - LATELY)
