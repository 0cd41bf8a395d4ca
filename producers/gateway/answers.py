"""What a client is told of its events. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from fleetwatch.records import from_millis
from producers.gateway.intake import Event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from producers.gateway.intake import Item


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str = Field(description="its name, box.x for a part; empty when it is the item as a whole")
    expected: str = Field(description="what belongs there")


class ItemResult(BaseModel):
    """What became of one event."""

    index: int = Field(description="its place in the list that was sent, from 0")
    status: str = Field(
        description="accepted: Kafka has it. refused: it cannot be used as it is. "
        "failed: not acknowledged in time, it may or may not arrive: send it again with this event_time and seq"
    )
    event_time: str | None = Field(None, description="as sent, or as filled in")
    seq: int | None = Field(None, description="as sent, or as filled in")
    errors: list[FieldProblem] | None = Field(None, description="of what was refused")


class Outcome(BaseModel):
    """What became of all events of a request."""

    accepted: int
    refused: int
    failed: int
    results: list[ItemResult]


class Problem(BaseModel):
    """Nothing of the request was taken."""

    error: str = Field(description="a word for programs")
    detail: str = Field(description="a line for people: what is wrong and what to do")


def outcome(items: Sequence[Item], acknowledged: Sequence[bool]) -> tuple[int, dict[str, Any]]:
    """Return the status code and the body; ``acknowledged`` has an entry for each event among the items.

    202: all accepted. 422: none, each is refused. 207: some refused, the others accepted. 503: some not acknowledged.
    """
    results: list[dict[str, Any]] = []
    counts = {"accepted": 0, "refused": 0, "failed": 0}
    reports = iter(acknowledged)
    for index, item in enumerate(items):
        if isinstance(item, Event):
            status = "accepted" if next(reports) else "failed"
            time = from_millis(item.event_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            results.append({"index": index, "status": status, "event_time": time, "seq": item.seq})
        else:
            status = "refused"
            errors = [{"field": error.field, "expected": error.expected} for error in item.errors]
            results.append({"index": index, "status": status, "errors": errors})
        counts[status] += 1
    return _status(**counts), {**counts, "results": results}


def _status(accepted: int, refused: int, failed: int) -> int:
    if failed:
        return 503
    if not refused:
        return 202
    return 207 if accepted else 422
