"""A lane's output records: what was derived of a batch, as columns, becomes blocks of encoded messages.

Scored readings and counts are written by one pass over their columns; dead letters are few and come one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fleetwatch import avro, avro_layout, columns, row_status, topics
from fleetwatch.records import (
    DeadLetter,
    DetectorState,
    Reason,
    Scope,
    ScoredReading,
    Verdict,
    WindowCount,
    from_millis,
)
from fleetwatch.validate import stage_of
from streams.detectors.half_space_trees import NAME as ONLINE_MODEL
from streams.windows import COUNT, LATE, MAX, MIN, OFFSET, SQUARES, SUM, Entries, WindowRules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streams.batch import Accepted, ActiveModel, Outputs, RawBatch
    from streams.inputs import Input
    from streams.names import Names
    from streams.scoring import Scores


def add_refused(out: Outputs, raw: RawBatch, batch: columns.Batch) -> None:
    """Add a dead letter for each record that is not OK."""
    rows = np.flatnonzero(batch.status != row_status.OK).tolist()
    reasons = [row_status.reason_of(int(batch.status[row])) for row in rows]
    add_letters(out, raw, [(row, reason, _DETAILS[reason]) for row, reason in zip(rows, reasons, strict=True)])


def add_letters(out: Outputs, raw: RawBatch, refused: Sequence[tuple[int, Reason, str]]) -> None:
    """Add dead letters: rows of a batch, each with its reason and the detail for people."""
    letters: list[tuple[bytes | None, bytes]] = []
    for row, reason, detail in refused:
        letter = DeadLetter.of(
            topic=raw.topic,
            partition=raw.partition,
            offset=int(raw.offsets[row]),
            broker_time=from_millis(int(raw.times[row])),
            key=raw.keys[row],
            value=raw.values[row],
            stage=stage_of(reason),
            reason=reason,
            detail=detail,
        )
        letters.append((letter.raw_key, avro.encode(letter)))
    out.add(topics.DEAD_LETTERS, [key for key, _ in letters], [letter for _, letter in letters])
    out.count("dead_lettered", len(letters))


def add_scored(out: Outputs, accepted: Accepted, scores: Scores, active: Sequence[ActiveModel | None]) -> None:
    """Add the scored record of each accepted reading; ``active`` is the batch model of each sensor type's number."""
    batch, raw, chosen, kinds = accepted.batch, accepted.raw, accepted.chosen, accepted.kinds
    extra, spans = _texts(ONLINE_MODEL, *(m.version if m else "" for m in active))
    buffer = np.concatenate([batch.buffer, extra])
    scored = columns.new_batch(ScoredReading, len(chosen), buffer)
    _copy_columns(batch, scored, chosen)
    slots = scored.layout.slots
    for name, column, present in (
        ("online_score", scores.online, scores.is_ready & ~np.isnan(scores.online)),
        ("batch_score", scores.batch, scores.is_ready & ~np.isnan(scores.batch)),
        ("score", scores.score, scores.is_ready),
    ):
        scored.floats[slots[name]] = np.where(present, column, 0.0)
        scored.ints[scored.layout.present[name]] = present
    verdict = np.where(
        scores.is_anomaly,
        _VERDICT[Verdict.ANOMALY],
        np.where(scores.is_ready, _VERDICT[Verdict.NORMAL], _VERDICT[Verdict.UNKNOWN]),
    )
    scored.ints[slots["verdict"]] = verdict
    scored.ints[slots["state"]] = np.where(
        scores.is_ready, _STATE[DetectorState.READY], _STATE[DetectorState.WARMING_UP]
    )
    starts, lengths = spans[:, 0] + len(batch.buffer), spans[:, 1]
    scored.ints[slots["online_model"]], scored.ints[slots["online_model"] + 1] = starts[0], lengths[0]
    scored.ints[slots["batch_model"]] = starts[kinds + 1]
    scored.ints[slots["batch_model"] + 1] = lengths[kinds + 1]
    scored.ints[slots["is_late"]] = accepted.folded.is_late
    scored.ints[slots["ingest_time"]] = raw.times[chosen]
    scored.ints[slots["source_partition"]] = raw.partition
    scored.ints[slots["source_offset"]] = raw.offsets[chosen]
    out.add(topics.SCORED, raw.keys.take(chosen), columns.encode_batch(scored, ScoredReading))
    out.count("scored", len(chosen))
    out.count("anomalies", int(scores.is_anomaly.sum()))


def add_counts(  # noqa: PLR0913  # what the entries' numbers stand for
    out: Outputs,
    entries: Entries,
    *,
    names: Names,
    source: Input,
    partition: int,
    rules: WindowRules,
    is_final: bool,
) -> None:
    """Add the count records of window entries."""
    if len(entries) == 0:
        return
    scopes = source.scopes
    keys = names.key_column(scopes, entries.scope, entries.key)
    topic = np.frombuffer(source.topic.encode(), np.uint8)
    counts = columns.new_batch(WindowCount, len(entries), np.concatenate([keys.buffer, topic]))
    slots, starts = counts.layout.slots, entries.window * rules.step_ms
    counts.ints[slots["scope"]] = np.array([_SCOPE[scope] for scope in scopes])[entries.scope]
    counts.ints[slots["key"]], counts.ints[slots["key"] + 1] = keys.starts, keys.lengths
    counts.ints[slots["source_topic"]], counts.ints[slots["source_topic"] + 1] = len(keys.buffer), len(topic)
    counts.ints[slots["window_start"]] = starts
    counts.ints[slots["window_end"]] = starts + rules.size_ms
    counts.ints[slots["source_partition"]] = partition
    counts.ints[slots["count"]] = entries.ints[:, COUNT]
    counts.ints[slots["late_count"]] = entries.ints[:, LATE]
    counts.ints[slots["included_offset"]] = entries.ints[:, OFFSET]
    counts.ints[slots["is_final"]] = is_final
    for name, column in (("sum", SUM), ("sum_of_squares", SQUARES), ("min", MIN), ("max", MAX)):
        counts.floats[slots[name]] = entries.floats[:, column]
    out.add(topics.COUNTS, keys, columns.encode_batch(counts, WindowCount))
    out.count("windows_final" if is_final else "windows_early", len(entries))


def _texts(*texts: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    joined, starts, stops = columns.join_bytes([text.encode() for text in texts])
    return joined, np.stack([starts, stops - starts], axis=1)


def _copy_columns(source: columns.Batch, target: columns.Batch, rows: NDArray[np.int64]) -> None:
    """Copy the fields that both records have by name (strings keep pointing into the same bytes)."""
    for leaf in source.layout.leaves:
        slot = target.layout.slots.get(leaf.name)
        if slot is None:
            continue
        mine = source.layout.slots[leaf.name]
        if leaf.op == avro_layout.OP_DOUBLE:
            target.floats[slot] = source.floats[mine, rows]
        else:
            width = 2 if leaf.op == avro_layout.OP_STRING else 1
            target.ints[slot : slot + width] = source.ints[mine : mine + width, rows]


def symbols(record: str, field: str) -> dict[Any, int]:
    """Return the number of each member of an enum field of a record's newest schema."""
    fields = {item["name"]: item for item in avro.load_schema(avro.latest_version(record))["fields"]}
    enum = {"verdict": Verdict, "state": DetectorState, "scope": Scope}[field]
    return {enum(symbol): number for number, symbol in enumerate(fields[field]["type"]["symbols"])}


_VERDICT: Final = symbols("scored_reading", "verdict")
_STATE: Final = symbols("scored_reading", "state")
_SCOPE: Final = symbols("window_count", "scope")
_DETAILS: Final[dict[Reason, str]] = {
    Reason.EMPTY_VALUE: "the event has no value",
    Reason.TOO_LARGE: f"more than {avro.MAX_EVENT_BYTES} bytes",
    Reason.EMPTY_KEY: "the key must be the device id",
    Reason.NOT_FRAMED: "no schema id in front (0x00 and four bytes expected)",
    Reason.UNKNOWN_SCHEMA: "the schema id is not known here",
    Reason.WRONG_SCHEMA: "the schema belongs to another topic",
    Reason.TRUNCATED: "the body ends too early",
    Reason.TRAILING_BYTES: "bytes follow the body",
    Reason.MALFORMED: "the body is no canonical Avro of its schema",
    Reason.KEY_MISMATCH: "the key is not the device id",
    Reason.NOT_A_NUMBER: "a number is NaN",
    Reason.INFINITE: "a number is infinite",
    Reason.TOO_FAR_AHEAD: "the event time is further ahead of the broker's than max_skew",
    Reason.SCORING_FAILED: "scoring failed",
}
