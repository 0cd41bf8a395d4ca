"""Alert rules: typed, from YAML; which devices they match; and the fold that opens and closes alerts."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import numpy as np
import yaml
from numba import njit
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.records import RuleKind, Severity
from streams.arrays import grown

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_RULES: Final = Path(__file__).with_name("rules.default.yaml")
YEAR_SECONDS: Final = 366 * 86_400
"""No rule waits longer."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Match(_Strict):
    """Which devices a rule looks at: all conditions that are given must hold."""

    sensor_type: tuple[str, ...] | None = None
    site: tuple[str, ...] | None = None
    device: str = "*"

    def fits(self, device: str, sensor_type: str, site: str) -> bool:
        """Say whether a device matches."""
        return (
            fnmatch.fnmatchcase(device, self.device)
            and (self.sensor_type is None or sensor_type in self.sensor_type)
            and (self.site is None or site in self.site)
        )


class _Rule(_Strict):
    name: Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[\w.-]+$")]
    severity: Literal["info", "warning", "critical"] = "warning"
    match: Match = Match()

    @property
    def level_of_severity(self) -> Severity:
        """The record's severity."""
        return Severity[self.severity.upper()]


class AnomalyRule(_Rule):
    """Fires on the verdict ANOMALY; resolved by the first reading ``quiet_seconds`` after the last such verdict."""

    kind: Literal["anomaly"]
    quiet_seconds: Annotated[float, Field(ge=0, le=YEAR_SECONDS)] = 10.0


class LevelRule(_Rule):
    """Fires at or beyond a value, resolved at or within ``clear``: the distance between them is the hysteresis."""

    kind: Literal["level"]
    above: float | None = None
    below: float | None = None
    clear: float

    @model_validator(mode="after")
    def _check(self) -> LevelRule:
        if (self.above is None) == (self.below is None):
            raise ValueError("give either above or below")
        if self.above is not None and self.clear > self.above:
            raise ValueError("clear must not be higher than above")
        if self.below is not None and self.clear < self.below:
            raise ValueError("clear must not be lower than below")
        return self

    @property
    def limit(self) -> float:
        """The value at which it fires."""
        return self.above if self.above is not None else float(self.below or 0.0)


class CountRule(_Rule):
    """Fires when a device has ``at_least`` events in one window; resolved by a later window with fewer."""

    kind: Literal["count"]
    at_least: Annotated[int, Field(ge=1)]


class SilenceRule(_Rule):
    """Fires when nothing was heard for ``after_seconds`` of event time; resolved by the next event.

    Nor before ``intervals`` of the device's own usual pauses have passed: who speaks rarely is not silent so soon.
    """

    kind: Literal["silence"]
    after_seconds: Annotated[float, Field(ge=0.001, le=YEAR_SECONDS)]
    intervals: Annotated[float, Field(ge=0, le=10_000)] = 0.0


class SurgeRule(_Rule):
    """Fires when a window holds unusually many (or few) detections of a camera, or of one label there, by its own past.

    Beyond the usual range, and with ``at_least`` so many in it (few: usually at least so many). With ``labels`` only
    those are looked at, without them every label and all together. Resolved by the first usual window
    ``quiet_seconds`` after the last unusual one. For cameras only.
    """

    kind: Literal["surge"]
    direction: Literal["above", "below"] = "above"
    at_least: Annotated[int, Field(ge=1)] = 10
    labels: tuple[str, ...] | None = None
    quiet_seconds: Annotated[float, Field(ge=0, le=YEAR_SECONDS)] = 10.0


class DriftRule(_Rule):
    """Fires when a device has changed for good and learns anew what is usual; resolved when it is judged again.

    For readings only.
    """

    kind: Literal["drift"]


Rule = AnomalyRule | LevelRule | CountRule | SilenceRule | SurgeRule | DriftRule


class RuleFile(_Strict):
    """A rules file."""

    rules: tuple[Annotated[Rule, Field(discriminator="kind")], ...]

    @model_validator(mode="after")
    def _check(self) -> RuleFile:
        names = [rule.name for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two rules are called {', '.join(twice)}")
        return self


def load_rules(path: Path | None = None) -> tuple[Rule, ...]:
    """Read the rules, the shipped ones by default.

    Raises:
        EnvironmentProblemError: the file is missing or wrong; the text names the rule and the field.

    """
    path = path or DEFAULT_RULES
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EnvironmentProblemError(f"cannot read the rules {path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date that does not exist
        raise EnvironmentProblemError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    try:
        return RuleFile.model_validate(content).rules
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        places = [str(path), *_places(content, first["loc"]), first["msg"]]
        raise EnvironmentProblemError(": ".join(places)) from None


def _places(content: Any, location: tuple[int | str, ...]) -> list[str]:
    """Say where in a rules file something is wrong: the rule by its name if it has one, and the field."""
    match location:
        case ("rules", int(number), *field):
            rule = content["rules"][number]
            name = rule.get("name") if isinstance(rule, dict) else None
            if field and isinstance(rule, dict) and field[0] == rule.get("kind"):
                del field[0]  # pydantic names the kind first
            named = f"rule {name!r}" if isinstance(name, str) else f"rules.{number}"
            return [named, *([".".join(str(part) for part in field)] if field else [])]
        case _:
            return [".".join(str(part) for part in location)] if location else []


def kind_of(rule: Rule) -> RuleKind:
    """Return the record's rule kind."""
    return RuleKind[rule.kind.upper()]


@njit(cache=True, nogil=True)
def _fold_hysteresis(rows, times, on, off, quiet_ms, is_open, started, last_on, out):
    filled = 0
    for i in range(rows.shape[0]):
        row = rows[i]
        if on[i]:
            if not is_open[row]:
                is_open[row] = True
                started[row] = times[i]
                out[filled, 0], out[filled, 1], out[filled, 2], out[filled, 3] = row, i, 1, times[i]
                filled += 1
            last_on[row] = max(last_on[row], times[i])
        elif is_open[row] and off[i] and times[i] - last_on[row] >= quiet_ms:
            is_open[row] = False
            out[filled, 0], out[filled, 1], out[filled, 2], out[filled, 3] = row, i, 0, started[row]
            filled += 1
    return filled


class Openings:
    """Open alerts of one rule: arrays by device row. ``last`` is the time (or window) that last kept it open."""

    def __init__(self, devices: int = 0) -> None:
        self.is_open = np.zeros(devices, np.bool_)
        self.started = np.zeros(devices, np.int64)
        self.last = np.zeros(devices, np.int64)

    def reserve(self, devices: int) -> None:
        """Make room for more devices."""
        self.is_open = grown(self.is_open, devices)
        self.started = grown(self.started, devices)
        self.last = grown(self.last, devices)

    def fold(
        self,
        rows: NDArray[np.int64],
        times: NDArray[np.int64],
        on: NDArray[np.bool_],
        off: NDArray[np.bool_],
        quiet_ms: int = 0,
    ) -> NDArray[np.int64]:
        """Return transitions (device row, batch row, 1 fires or 0 resolves, started_at ms), in order."""
        out = np.empty((len(rows), 4), np.int64)
        filled = _fold_hysteresis(rows, times, on, off, quiet_ms, self.is_open, self.started, self.last, out)
        transitions: NDArray[np.int64] = out[:filled]
        return transitions

    def snapshot(self, devices: int) -> dict[str, NDArray[Any]]:
        """Return what ``restore`` needs, of so many devices: how much room there is beside them is no state."""
        return {name: getattr(self, name)[:devices] for name in ("is_open", "started", "last")}

    @classmethod
    def restore(cls, state: dict[str, NDArray[Any]], devices: int) -> Openings:
        """Return the openings of a snapshot."""
        openings = cls()
        openings.is_open = state["is_open"][:devices].copy()
        openings.started = state["started"][:devices].copy()
        openings.last = state["last"][:devices].copy()
        return openings
