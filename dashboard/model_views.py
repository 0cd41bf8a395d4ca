"""The Models page: versions by sensor type. Pure; every text from outside is escaped.

Fields that a version does not have are not shown: an older worker announces fewer.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from dashboard import look, markup
from dashboard.attention import natural
from dashboard.markup import word
from fleetwatch.model_catalogue import Catalogue
from fleetwatch.records import ModelStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dashboard.notes import Notes
    from fleetwatch.i18n import Texts
    from fleetwatch.model_catalogue import Compared
    from fleetwatch.records import ModelVersion

MAX_TYPES: Final = 40
MAX_RETIRED: Final = 5
STATUS_TONE: Final = {
    ModelStatus.ACTIVE: ("normal", "●"),
    ModelStatus.SHADOW: ("info", "◔"),
    ModelStatus.RETIRED: ("stale", "○"),
}


def by_type(notes: Notes) -> dict[str, list[ModelVersion]]:
    """Return the versions of each sensor type: the active one, its shadows, the retired; each the newest first."""
    types: dict[str, list[ModelVersion]] = {}
    for told in notes.models.values():
        types.setdefault(told.model.sensor_type, []).append(told.model)
    order = list(STATUS_TONE)
    for versions in types.values():
        versions.sort(key=lambda model: (order.index(model.status), -model.trained_at.timestamp(), model.version))
    return {name: types[name] for name in sorted(types, key=natural)}


def compared(notes: Notes) -> Catalogue:
    """Return how shadows compare with the versions in force."""
    catalogue = Catalogue()
    for comparison in notes.comparisons.values():
        catalogue.compare(comparison)
    return catalogue


def types_html(types: Mapping[str, Sequence[ModelVersion]], catalogue: Catalogue, say: Texts) -> str:
    """Draw the sensor types beside each other, the shadows with how they compare."""
    drawn = "".join(type_html(name, versions, catalogue, say) for name, versions in types.items())
    return f'<div class="fw-types">{drawn}</div>'


def type_html(sensor_type: str, versions: Iterable[ModelVersion], catalogue: Catalogue, say: Texts) -> str:
    """Draw the versions of one sensor type."""
    shown: list[str] = []
    retired = 0
    for model in versions:
        retired += model.status is ModelStatus.RETIRED
        if model.status is not ModelStatus.RETIRED or retired <= MAX_RETIRED:
            is_shadow = model.status is ModelStatus.SHADOW
            beside = catalogue.compared(sensor_type, model.version) if is_shadow else None
            shown.append(version_html(model, beside, say))
    more = retired - MAX_RETIRED
    rest = f'<div class="fw-more">{escape(say("models.more-retired", count=more))}</div>' if more > 0 else ""
    name = word(say, "type", sensor_type)
    note = sensor_type if say.has(f"type.{sensor_type}") and say.language != "en" else ""
    return (
        f'<div data-model-type="{escape(sensor_type)}">{markup.heading(name, say.isolate(note) if note else "")}'
        f'<div class="fw-models">{"".join(shown)}</div>{rest}</div>'
    )


def version_html(model: ModelVersion, beside: Compared | None, say: Texts) -> str:
    """Draw one version with what is known of it, and of how it compares."""
    tone, mark = STATUS_TONE[model.status]
    state = look.pill(tone, mark, say(f"models.{model.status.name}"))
    facts = "".join(
        f'<div class="fw-fact"><span>{escape(label)}</span>{markup.number(value, say)}</div>'
        for label, value in [*facts_of(model, say), *comparison_of(beside, say)]
    )
    return (
        f'<div class="fw-card fw-model" data-model="{escape(model.version)}" data-status="{model.status.name}">'
        f'<div class="fw-row">{markup.name(model.version, say)}{state}</div>{facts}</div>'
    )


def comparison_of(beside: Compared | None, say: Texts) -> list[tuple[str, str]]:
    """Return how a shadow compares, as label and value; nothing of one that was not compared yet."""
    if beside is None:
        return []
    return [
        (say("models.beside"), beside.against),
        (say("models.compared"), look.whole(beside.readings)),
        (say("models.agreement"), f"{beside.agreement:.0%}"),
        (say("models.difference"), f"{beside.difference:.3f}"),
        (say("models.alarms"), f"{beside.alarm_rate:.2%}"),
        (say("models.alarms-beside"), f"{beside.alarm_rate_against:.2%}"),
    ]


def facts_of(model: ModelVersion, say: Texts) -> list[tuple[str, str]]:
    """Return the fields of a version as label and value."""
    found = [
        (say("models.algorithm"), model.algorithm),
        (say("models.trained"), look.moment(model.trained_at)),
        (say("models.rows"), look.whole(model.training_rows)),
    ]
    start, end = (getattr(model, name, None) for name in ("training_from", "training_until"))
    if start is not None and end is not None:
        found += [(say("models.from"), look.moment(start)), (say("models.until"), look.moment(end))]
    if fingerprint := getattr(model, "fingerprint", ""):
        found.append((say("models.fingerprint"), fingerprint[:16]))
    if features := getattr(model, "features", ()):
        found.append((say("models.features"), ", ".join(features)))
    for name in ("previous", "note"):
        if value := getattr(model, name, ""):
            found.append((say(f"models.{name}"), value))
    for metric in (*getattr(model, "parameters", ()), *model.metrics):
        found.append((word(say, "metric", metric.name), look.limit(metric.value)))
    return found
