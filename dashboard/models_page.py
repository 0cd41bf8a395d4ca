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
    catalogue = model_views.catalogue_of(wiring.sources().live.board.notes)
    types = len(catalogue.sensor_types)
    frame.draw(markup.heading(say("page.models"), say("models.types", count=types) if types else ""), say)
    frame.draw(model_views.types_html(catalogue, say) if types else markup.empty(say("models.none")), say)
