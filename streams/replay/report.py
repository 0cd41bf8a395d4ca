"""A comparison as one HTML page that needs nothing else: no script, no network. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streams.replay.compare import Comparison, Opening, Quality

MOST_ROWS: Final = 2000
"""Differences in the table; the JSON has all of them."""
BUCKETS: Final = 60
MOST_BARS: Final = 30
COLOURS: Final = ("#7a8794", "#2563a8")
"""Left, right: told apart without colour vision too, by lightness."""

_STYLE: Final = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #8884 }
td.n, th.n { text-align: right }
svg { width: 100%; height: auto; overflow: visible }
svg text { fill: currentColor; font: 11px system-ui, sans-serif }
.key::before { content: ""; display: inline-block; width: .8em; height: .8em; margin: 0 .4em 0 1em;
  background: var(--c) }
"""


def html(comparison: Comparison) -> str:
    """Return the page."""
    left, right = escape(comparison.left.name), escape(comparison.right.name)
    facts = comparison.as_dict()
    key = "".join(
        f'<span class="key" style="--c: {colour}">{name}</span>'
        for colour, name in zip(COLOURS, (left, right), strict=True)
    )
    return "".join(
        [
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{left} and {right}</title>',
            f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>',
            f"<h1>Alerts: what changed</h1><p>{key}</p>",
            _table(
                ("", left, right),
                [
                    ("alerts", *facts["alerts"]),
                    *(
                        (name, *(_said(quality, field) for quality in comparison.quality))
                        for name, field in (
                            ("precision (alerts on a known fault)", "precision"),
                            ("recall (known faults with an alert)", "recall"),
                            ("precision by feedback", "precision_by_feedback"),
                        )
                    ),
                ],
            ),
            f"<p>{comparison.same} alerts are the same. ",
            ", ".join(f"{count} {kind}" for kind, count in facts["differences"].items()) + ".</p>",
            "<h2>Alerts over time</h2>",
            _over_time(comparison.left.alerts, comparison.right.alerts),
            "<h2>By rule</h2>",
            _bars(comparison.by_rule),
            "<h2>By device</h2>",
            _bars(dict(sorted(comparison.by_device.items(), key=_most_changed)[:MOST_BARS])),
            "<h2>Differences</h2>",
            _table(
                ("what", "rule", "device", "severity", "began", "began before", "ended"),
                [
                    (
                        difference.kind,
                        difference.shown.rule,
                        difference.shown.device_id,
                        difference.shown.severity,
                        time_of(difference.shown.started_ms),
                        f"{difference.shift_ms / 1000:+.1f} s" if difference.shift_ms else "",
                        time_of(difference.shown.ended_ms),
                    )
                    for difference in comparison.differences[:MOST_ROWS]
                ],
            ),
            f"<p>The first {MOST_ROWS} of {len(comparison.differences)}.</p>"
            if len(comparison.differences) > MOST_ROWS
            else "",
            "</html>\n",
        ]
    )


def time_of(millis: int | None) -> str:
    """Return a time for people, UTC."""
    if millis is None:
        return "still open"
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _said(quality: Quality, field: str) -> str:
    number = getattr(quality, field)
    return "not known" if number is None else f"{number:.3f}"


def _most_changed(item: tuple[str, tuple[int, int]]) -> tuple[int, int, str]:
    name, (before, after) = item
    return -abs(after - before), -(before + after), name


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    def cell(value: object, tag: str) -> str:
        is_number = isinstance(value, int)
        return f"<{tag}{' class=n' if is_number else ''}>{escape(str(value))}</{tag}>"

    lines = ["".join(cell(value, "td") for value in row) for row in rows]
    return (
        f"<table><tr>{''.join(f'<th>{title}</th>' for title in head)}</tr>"
        f"{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
    )


def _over_time(left: Sequence[Opening], right: Sequence[Opening]) -> str:
    """Alerts that began in each of 60 equal spans: the left ones upwards, the right ones downwards."""
    times = [one.started_ms for one in (*left, *right)]
    if not times:
        return "<p>There are no alerts.</p>"
    first, last = min(times), max(times)
    width = max(1, (last - first + BUCKETS) // BUCKETS)
    counts = [[0] * BUCKETS for _ in range(2)]
    for side, alerts in enumerate((left, right)):
        for one in alerts:
            counts[side][(one.started_ms - first) // width] += 1
    tallest = max(max(side) for side in counts)
    step, height = 1000 / BUCKETS, 80
    shapes = [f'<line x1="0" x2="1000" y1="{height}" y2="{height}" stroke="currentColor"/>']
    for side, sign in ((0, -1), (1, 1)):
        for at, count in enumerate(counts[side]):
            if count:
                size = count / tallest * (height - 12)
                top = height - size if sign < 0 else height
                shapes.append(
                    f'<rect x="{at * step + 1:.1f}" y="{top:.1f}" width="{step - 2:.1f}" height="{size:.1f}" '
                    f'fill="{COLOURS[side]}"><title>{time_of(first + at * width)}: {count}</title></rect>'
                )
    shapes.append(f'<text x="0" y="{2 * height + 14}">{time_of(first)}</text>')
    shapes.append(f'<text x="1000" y="{2 * height + 14}" text-anchor="end">{time_of(last)}</text>')
    shapes.append(f'<text x="0" y="9">{tallest} at most in {width / 1000:g} s</text>')
    return f'<svg viewBox="0 0 1000 {2 * height + 20}" role="img">{"".join(shapes)}</svg>'


def _bars(counts: dict[str, tuple[int, int]]) -> str:
    """Two bars for each name."""
    if not counts:
        return "<p>There are no alerts.</p>"
    longest = max(max(pair) for pair in counts.values()) or 1
    shapes = []
    for row, (name, pair) in enumerate(counts.items()):
        top = row * 34
        shapes.append(f'<text x="0" y="{top + 19}">{escape(name)}</text>')
        for side, count in enumerate(pair):
            length, y = count / longest * 640, top + 4 + side * 13
            shapes.append(
                f'<rect x="300" y="{y}" width="{length:.1f}" height="11" fill="{COLOURS[side]}"/>'
                f'<text x="{306 + length:.1f}" y="{y + 9}">{count}</text>'
            )
    return f'<svg viewBox="0 0 1000 {len(counts) * 34 + 4}" role="img">{"".join(shapes)}</svg>'
