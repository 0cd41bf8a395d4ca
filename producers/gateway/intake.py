"""A request's body to events for Kafka, item by item. Pure: the time is passed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError
from pydantic_core import from_json

from producers.encode import RowEncoder
from producers.gateway.models import expected

if TYPE_CHECKING:
    from producers.gateway.models import Incoming
    from producers.gateway.sequence import Sequence

MAX_ERRORS: Final = 5
"""An item's errors that are told; the rest is found when these are corrected."""
_LONGEST_NAME: Final = 100


@dataclass(frozen=True, slots=True)
class Event:
    """What goes to Kafka, and its identity: device, event time, seq."""

    key: bytes
    value: bytes
    device: str
    event_ms: int
    seq: int


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field; the field is empty when it is the item as a whole."""

    field: str
    expected: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """An item that cannot be used."""

    errors: tuple[FieldError, ...]


Item = Event | Refusal


class BadBodyError(Exception):
    """The body as a whole cannot be used: nothing of it is taken. Text: what is expected."""

    def __init__(self, status: int, error: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.error = error
        self.detail = detail


class Intake:
    """Reads bodies of one kind of event."""

    def __init__(self, model: type[Incoming], sequence: Sequence, *, max_items: int, max_skew_ms: int) -> None:
        self._model = model
        self._sequence = sequence
        self._encode = RowEncoder(model.RECORD)
        self._max_items = max_items
        self._max_skew_ms = max_skew_ms

    def read(self, body: bytes, now_us: int) -> list[Item]:
        """Return an item for each object, in their order; ``now_us`` is the arrival, microseconds since 1970.

        Raises:
            BadBodyError: it is no JSON, neither an object nor a list, empty, or a list of too many.

        """
        try:
            content: Any = from_json(body)  # NaN and infinity pass here and are refused with index and field below
        except ValueError as error:
            raise BadBodyError(400, "not_json", f"the body must be JSON: {error}") from None
        items = content if isinstance(content, list) else [content]
        if not items or not isinstance(content, list | dict):
            raise BadBodyError(422, "not_events", "the body must be one object or a list of at least one")
        if len(items) > self._max_items:
            raise BadBodyError(
                413,
                "too_many_items",
                f"{len(items)} events in one request, at most {self._max_items} are taken: split it",
            )
        return [self._read_one(item, now_us) for item in items]

    def _read_one(self, item: object, now_us: int) -> Item:
        try:
            incoming = self._model.model_validate(item)
        except ValidationError as error:
            return Refusal(self._explain(error))
        now_ms = now_us // 1000
        event_ms = now_ms if incoming.event_time is None else incoming.event_time
        if event_ms > now_ms + self._max_skew_ms:
            limit, ahead = self._max_skew_ms / 1000, (event_ms - now_ms) / 1000
            text = f"at most {limit:g} s ahead of the gateway's clock, this is {ahead:.0f} s ahead"
            return Refusal((FieldError("event_time", text),))
        seq = self._sequence.next(now_us) if incoming.seq is None else incoming.seq
        device = incoming.device
        return Event(device.encode(), self._encode(incoming.row(event_ms, seq)), device, event_ms, seq)

    def _explain(self, error: ValidationError) -> tuple[FieldError, ...]:
        found: dict[str, FieldError] = {}
        for problem in error.errors(include_input=False, include_url=False, include_context=False):
            place = problem["loc"]
            name = ".".join(map(str, place))[:_LONGEST_NAME]
            found.setdefault(name, FieldError(name, expected(self._model, place)))
            if len(found) == MAX_ERRORS:
                break
        return tuple(found.values())
