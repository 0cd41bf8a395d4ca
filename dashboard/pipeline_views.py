"""The Pipeline page: figures, parts, lag, rates, dead letters. Pure; every text from outside is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from dashboard import look, markup
from dashboard.flow import FLOWING, Health, rates, readers
from dashboard.markup import Figure
from fleetwatch import topics
from fleetwatch.records import from_millis, to_millis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dashboard.event_reads import RefusalCount
    from dashboard.flow import Reader
    from dashboard.live import Board
    from dashboard.notes import Refusal
    from dashboard.watch import Seen
    from fleetwatch.i18n import Texts

REFUSALS_SHOWN: Final = 8
TONE: Final = {
    Health.AWAY: ("critical", "▲"),
    Health.STANDS: ("critical", "▲"),
    Health.BEHIND: ("warning", "■"),
    Health.UNKNOWN: ("stale", "○"),
    Health.WELL: ("normal", "●"),
}


def figures(seen: Seen, board: Board, say: Texts, *, now_ms: int) -> list[Figure]:
    """Return the four figures on top."""
    flow = rates(seen.looks)
    lag = sum(seen.looks[-1].lags.values()) if seen.looks else None
    worst = readers(seen.looks)[0].health if seen.looks else Health.UNKNOWN
    lately = sum(count for second, count in board.dead_letters_per_second.items() if second > now_ms // 1000 - 60)
    incoming = flow.get(topics.READINGS, 0.0) + flow.get(topics.DETECTIONS, 0.0)
    return [
        Figure(
            say("pipeline.waiting"),
            "—" if lag is None else look.whole(lag),
            say("pipeline.waiting-note"),
            tone="critical" if worst is Health.STANDS else "warning" if worst is Health.BEHIND else "",
        ),
        Figure(say("pipeline.in"), look.rate(incoming) if flow else "—", say("pipeline.in-note")),
        Figure(say("pipeline.scored"), look.rate(flow[topics.SCORED]) if flow else "—", say("pipeline.scored-note")),
        Figure(
            say("figure.dead-letters"),
            look.whole(board.dead_letters),
            say("figure.dead-letters-note", count=lately),
            tone="warning" if lately else "",
        ),
    ]


def parts_html(seen: Seen, say: Texts, *, is_live: bool) -> str:
    """Draw the health of every part that can be known from here."""
    stores = [
        ("kafka", _store(seen.kafka), say("pipeline.kafka-note")),
        ("database", _store(seen.database), say("pipeline.database-note")),
        ("redis", _store(seen.redis), say("pipeline.redis-note")),
        ("dashboard", Health.WELL if is_live else Health.AWAY, say("pipeline.dashboard-note")),
    ]
    rows = [_part(say(f"part.{name}"), health, note, say) for name, health, note in stores]
    names = [name for name, _, _ in stores]
    if seen.looks:
        for reader in readers(seen.looks):
            rows.append(_part(_group(reader.group, say), reader.health, _reader_note(reader, say), say))
            names.append(reader.group)
    titles = [say("column.part"), say("column.state"), say("column.note")]
    return markup.table(titles, rows, attributes=[f'data-part="{escape(name)}"' for name in names])


def lag_html(seen: Seen, say: Texts) -> str:
    """Draw how many messages each group has not worked off, by topic and partition."""
    if not seen.looks:
        return markup.empty(say("pipeline.no-look"))
    rows, attributes = [], []
    for reader in sorted(readers(seen.looks), key=lambda reader: list(topics.READ_BY).index(reader.group)):
        for topic in topics.READ_BY[reader.group]:
            counts = [reader.waiting[place] for place in sorted(reader.waiting) if place[0] == topic]
            rows.append(
                (
                    escape(_group(reader.group, say)),
                    markup.name(topic, say),
                    markup.number(look.whole(sum(counts)), say),
                    "".join(
                        f'<span class="fw-partition" title="{escape(say("pipeline.partition", number=number))}">'
                        f"{escape(say.isolate(count))}</span>"
                        for number, count in enumerate(counts)
                    ),
                )
            )
            attributes.append(f'data-lag="{escape(reader.group)} {escape(topic)}"')
    titles = [say("column.reader"), say("column.topic"), say("column.waiting"), say("column.partitions")]
    return markup.table(titles, rows, attributes=attributes)


def rates_html(seen: Seen, say: Texts) -> str:
    """Draw how many messages come into each topic."""
    flow = rates(seen.looks)
    if not flow:
        return markup.empty(say("pipeline.first-look" if seen.looks else "pipeline.no-look"))
    last = seen.looks[-1]
    rows = [
        (
            markup.name(topic, say),
            markup.number(look.rate(flow[topic]), say),
            markup.number(look.whole(sum(end for place, end in last.ends.items() if place[0] == topic)), say),
        )
        for topic in FLOWING
    ]
    titles = [say("column.topic"), say("column.per-second"), say("column.in-all")]
    return markup.table(titles, rows, attributes=[f'data-rate="{escape(topic)}"' for topic in FLOWING])


def reasons_html(counts: Sequence[RefusalCount], say: Texts, *, now_ms: int) -> str:
    """Draw the dead letters of the last day by reason."""
    if not counts:
        return markup.empty(say("pipeline.no-dead-letters"))
    rows = [
        (
            escape(say(f"reason.{row.reason.name}")),
            escape(say(f"stage.{row.stage.name}")),
            markup.number(look.whole(row.count), say),
            escape(look.ago(now_ms - to_millis(row.newest), say)),
        )
        for row in counts
    ]
    titles = [say("column.reason"), say("column.stage"), say("column.count"), say("column.newest")]
    return markup.table(titles, rows, attributes=[f'data-reason="{row.reason.name}"' for row in counts])


def refusals_html(refusals: Sequence[Refusal], say: Texts) -> str:
    """Draw the newest dead letters."""
    if not refusals:
        return markup.empty(say("pipeline.no-refusals"))
    rows = [
        (
            markup.number(look.moment(from_millis(one.at_ms)), say),
            markup.name(one.key or "—", say),
            _refused_for(one, say),
            markup.number(f"{one.topic} [{one.partition}] @ {one.offset}", say),
        )
        for one in refusals[: -REFUSALS_SHOWN - 1 : -1]
    ]
    return markup.table([say("column.time"), say("column.key"), say("column.reason"), say("column.position")], rows)


def _refused_for(one: Refusal, say: Texts) -> str:
    why = escape(say(f"reason.{one.reason.name}"))
    return f'{why}<div class="fw-sub fw-wrap">{escape(say.isolate(one.detail))}</div>'


def _part(name: str, health: Health, note: str, say: Texts) -> tuple[str, ...]:
    tone, mark = TONE[health]
    return (f"<b>{escape(name)}</b>", look.pill(tone, mark, say(f"health.{health.name}")), escape(note))


def _store(is_there: bool | None) -> Health:  # noqa: FBT001  # three values, not a switch
    return Health.UNKNOWN if is_there is None else Health.WELL if is_there else Health.AWAY


def _group(group: str, say: Texts) -> str:
    key = f"group.{group}"
    return say(key) if say.has(key) else say.isolate(group)


def _reader_note(reader: Reader, say: Texts) -> str:
    rate = "—" if reader.committed_per_second is None else look.rate(reader.committed_per_second)
    return say("pipeline.reader-note", count=reader.lag, rate=rate)
