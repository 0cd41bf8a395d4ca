"""The Models page: versions by sensor type. Pure; every text from outside is escaped.

Fields that a version does not have are not shown: an older worker announces fewer.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from dashboard import look, markup
from dashboard.attention import natural
from dashboard.markup import word
from fleetwatch.model_catalogue import FALLBACK, Catalogue
from fleetwatch.records import ModelStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dashboard.notes import Notes
    from fleetwatch.i18n import Texts
    from fleetwatch.model_catalogue import Compared
    from fleetwatch.records import ModelVersion

MAX_TYPES: Final = 40
MAX_RETIRED: Final = 5
SHOWN_FINGERPRINT: Final = 16
STATUS_TONE: Final = {
    ModelStatus.ACTIVE: ("normal", "●"),
    ModelStatus.SHADOW: ("info", "◔"),
    ModelStatus.RETIRED: ("stale", "○"),
}


def catalogue_of(notes: Notes) -> Catalogue:
    """Return what is known of models: which version is in force is decided where the workers have it decided."""
    catalogue = Catalogue(told.model for told in notes.models.values())
    for comparison in notes.comparisons.values():
        catalogue.compare(comparison)
    return catalogue


def by_type(catalogue: Catalogue) -> dict[str, list[ModelVersion]]:
    """Return the versions of each sensor type: the active one, its shadows, the retired; each the newest first."""
    order = list(STATUS_TONE)
    return {
        sensor_type: sorted(catalogue.versions(sensor_type), key=lambda model: order.index(model.status))
        for sensor_type in sorted(catalogue.sensor_types, key=lambda name: (name == FALLBACK, natural(name)))
    }


def types_html(catalogue: Catalogue, say: Texts) -> str:
    """Draw the sensor types beside each other."""
    shown = list(by_type(catalogue).items())[:MAX_TYPES]
    drawn = "".join(type_html(name, versions, catalogue, say) for name, versions in shown)
    more = len(catalogue.sensor_types) - len(shown)
    rest = f'<div class="fw-more">{escape(say("models.more-types", count=more))}</div>' if more > 0 else ""
    return f'<div class="fw-types">{drawn}</div>{rest}'


def type_html(sensor_type: str, versions: Iterable[ModelVersion], catalogue: Catalogue, say: Texts) -> str:
    """Draw the versions of one sensor type."""
    shown: list[ModelVersion] = []
    retired = 0
    for model in versions:
        retired += model.status is ModelStatus.RETIRED
        if model.status is not ModelStatus.RETIRED or retired <= MAX_RETIRED:
            shown.append(model)
    drawn = [version_html(model, catalogue.compared(sensor_type, model.version), say) for model in shown]
    more = retired - MAX_RETIRED
    rest = f'<div class="fw-more">{escape(say("models.more-retired", count=more))}</div>' if more > 0 else ""
    name = word(say, "type", sensor_type)
    note = sensor_type if say.has(f"type.{sensor_type}") and say.language != "en" else ""
    return (
        f'<div data-model-type="{escape(sensor_type)}">{markup.heading(name, say.isolate(note) if note else "")}'
        f'<div class="fw-models">{"".join(drawn)}</div>{rest}</div>'
    )


def version_html(model: ModelVersion, compared: Compared | None, say: Texts) -> str:
    """Draw one version with what is known of it."""
    tone, mark = STATUS_TONE[model.status]
    state = look.pill(tone, mark, say(f"models.{model.status.name}"))
    facts = "".join(
        f'<div class="fw-fact"><span>{escape(label)}</span>{markup.number(value, say)}</div>'
        for label, value in facts_of(model, compared, say)
    )
    return (
        f'<div class="fw-card fw-model" data-model="{escape(model.version)}" data-status="{model.status.name}">'
        f'<div class="fw-row">{markup.name(model.version, say)}{state}</div>{facts}</div>'
    )


def facts_of(model: ModelVersion, compared: Compared | None, say: Texts) -> list[tuple[str, str]]:
    """Return the fields of a version as label and value."""
    found = [
        (say("models.algorithm"), model.algorithm),
        (say("models.trained"), look.moment(model.trained_at)),
        (say("models.rows"), look.whole(model.training_rows)),
    ]
    if model.training_from is not None and model.training_until is not None:
        found.append((say("models.from"), look.moment(model.training_from)))
        found.append((say("models.until"), look.moment(model.training_until)))
    found += [
        (say(f"models.{name}"), text)
        for name, text in (
            ("fingerprint", model.fingerprint[:SHOWN_FINGERPRINT]),
            ("features", ", ".join(model.features)),
            ("previous", model.previous),
            ("note", model.note),
        )
        if text
    ]
    found += [(word(say, "metric", one.name), look.limit(one.value)) for one in (*model.parameters, *model.metrics)]
    if compared is not None and model.status is ModelStatus.SHADOW:
        found += [
            (say("models.beside"), compared.against),
            (say("models.compared"), look.whole(compared.readings)),
            (say("models.agreement"), f"{compared.agreement:.0%}"),
            (say("models.difference"), f"{compared.difference:.3f}"),
            (say("models.alarms"), f"{compared.alarm_rate:.2%}"),
            (say("models.alarms-beside"), f"{compared.alarm_rate_against:.2%}"),
        ]
    return found
