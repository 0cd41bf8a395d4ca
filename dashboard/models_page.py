"""The page of the models: which version is in force for each sensor type, its shadows, and what came before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dashboard import frame, markup, model_views
from dashboard import sources as wiring

if TYPE_CHECKING:
    from fleetwatch.i18n import Texts


def render() -> None:
    """Draw the page."""
    models()


@frame.part
def models(say: Texts) -> None:
    """Show the versions of each sensor type."""
    notes = wiring.sources().live.board.notes
    types = model_views.by_type(notes)
    frame.draw(markup.heading(say("page.models"), say("models.types", count=len(types))), say)
    if not types:
        frame.draw(markup.empty(say("models.none")), say)
        return
    shown = list(types.items())[: model_views.MAX_TYPES]
    frame.draw(model_views.types_html(dict(shown), model_views.compared(notes), say), say)
    if (more := len(types) - len(shown)) > 0:
        frame.draw(f'<div class="fw-more">{say("models.more-types", count=more)}</div>', say)
