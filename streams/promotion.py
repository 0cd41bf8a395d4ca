"""Whether a shadow model may come in force: a decision about figures, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fleetwatch.model_catalogue import Compared
    from fleetwatch.settings import Settings

USUAL_ALARM_RATE: Final = 0.005
"""Alarm rates up to this are no reason to refuse: a model's alarm level is passed by one training reading in 1,000."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is asked of a shadow."""

    readings: int = 1000
    agreement: float = 0.3
    difference: float = 0.15
    alarm_ratio: float = 3.0

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return the limits that are set."""
        return cls(
            readings=settings.promote_min_readings,
            agreement=settings.promote_min_agreement,
            difference=settings.promote_max_difference,
            alarm_ratio=settings.promote_max_alarm_ratio,
        )


def objections(compared: Compared | None, active: str | None, limits: Limits) -> list[str]:
    """Return why a shadow must stay one, a line each with the figures; nothing when it may come in force.

    ``active`` is the version in force: without one there is nothing to disagree with. A comparison with another version
    counts as none.
    """
    if active is None:
        return []
    if compared is None or compared.against != active or compared.readings < limits.readings:
        readings = 0 if compared is None or compared.against != active else compared.readings
        return [f"it has scored {readings} readings beside {active}, at least {limits.readings} are asked for"]
    found = []
    if compared.agreement < limits.agreement:
        found.append(
            f"they agree on {compared.agreement:.0%} of the readings that are among the strangest 1 % for either "
            f"({compared.strange_both} of {compared.strange_either}), at least {limits.agreement:.0%} are asked for"
        )
    if compared.difference > limits.difference:
        found.append(
            f"their scores differ by {compared.difference:.3f} on average, at most {limits.difference:.3f} is allowed"
        )
    allowed = max(USUAL_ALARM_RATE, limits.alarm_ratio * compared.alarm_rate_against)
    if compared.alarm_rate > allowed:
        found.append(
            f"it would alarm on {compared.alarm_rate:.2%} of readings, {active} on {compared.alarm_rate_against:.2%}; "
            f"at most {allowed:.2%} is allowed"
        )
    return found
