"""Line charts of a run as SVG: no library, so that a report can be made wherever a run was made. Pure."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 900, 260
SIZE: Final = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
LEFT, RIGHT, TOP, BOTTOM = 60, 170, 28, 30
POINTS: Final = 400
"""A line shows the highest and the lowest value in each of so many stretches."""
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c510a", "#7b3294")
"""Okabe and Ito's palette, and two more."""

Line = list[tuple[float, float]]
"""Points (seconds since the epoch, value)."""


class Marks(NamedTuple):
    """Moments that are shown as thin upright lines, and what they are."""

    times: list[float]
    label: str


def chart(title: str, unit: str, lines: Mapping[str, Line], marks: Marks | None = None, *, dots: bool = False) -> str:
    """Return one chart; with ``dots`` the points are not joined."""
    points = [point for line in lines.values() for point in line]
    if not points:
        points = [(0.0, 0.0)]
    first, last = min(at for at, _ in points), max(at for at, _ in points)
    span = max(last - first, 1.0)
    highest = _round_up(max(value for _, value in points))

    def across(at: float) -> float:
        return LEFT + (at - first) / span * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - value / highest * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {SIZE} font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="16" font-size="13">{escape(title)}</text>',
    ]
    for step in range(5):
        value = highest * step / 4
        parts += [
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(value):.1f}" y2="{up(value):.1f}" stroke="#dddddd"/>',
            f'<text x="{LEFT - 6}" y="{up(value) + 4:.1f}" text-anchor="end">{_number(value)}</text>',
        ]
    parts.append(f'<text x="{LEFT - 6}" y="16" text-anchor="end">{escape(unit)}</text>')
    hours = span > 2 * 3600
    for step in range(6):
        at = first + span * step / 5
        passed = (at - first) / (3600 if hours else 60)
        text = f"{passed:.1f}".rstrip("0").rstrip(".") + (" h" if hours else " min")
        parts.append(f'<text x="{across(at):.1f}" y="{HEIGHT - 10}" text-anchor="middle">{text}</text>')
    for at in marks.times if marks else []:
        parts.append(
            f'<line x1="{across(at):.1f}" x2="{across(at):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" '
            'stroke="#999999" stroke-dasharray="2 3"/>'
        )
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        style = f'stroke="{colour}" stroke-width="1.4"' + (' stroke-dasharray="5 3"' if number >= len(COLOURS) else "")
        shown = [(across(at), up(value)) for at, value in thinned(line)]
        if dots:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.2" fill="{colour}"/>' for x, y in shown]
        else:
            joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in shown)
            parts.append(f'<polyline points="{joined}" fill="none" {style}/>')
        y = TOP + 8 + 16 * number
        parts += [
            f'<line x1="{WIDTH - RIGHT + 8}" x2="{WIDTH - RIGHT + 24}" y1="{y - 3}" y2="{y - 3}" {style}/>',
            f'<text x="{WIDTH - RIGHT + 28}" y="{y + 1}">{escape(name)}</text>',
        ]
    if marks and marks.times:
        y = TOP + 8 + 16 * len(lines)
        parts.append(f'<text x="{WIDTH - RIGHT + 12}" y="{y + 1}" fill="#666666">┊ {escape(marks.label)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def thinned(line: Sequence[tuple[float, float]]) -> Line:
    """Return a line's points; of a long one the highest and the lowest of each stretch, in order."""
    if len(line) <= 2 * POINTS:
        return list(line)
    kept: Line = []
    for cut in np.array_split(np.arange(len(line)), POINTS):
        stretch = [line[number] for number in cut.tolist()]
        kept += sorted({min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])})
    return kept


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 2.5, 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= value)


def _number(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:.0f}k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
