"""Draws series of the Numenta Anomaly Benchmark with labelled windows and the engine's alarms, as SVG for the docs.

.venv/bin/python tools/detection_plots.py FOLDER docs/detection realKnownCause/nyc_taxi.csv ...
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np

from streams.evaluation import nab
from streams.evaluation.nab_score import probation

WIDTH, HEIGHT, EDGE = 900, 220, 10
POINTS = 450
"""Pixels across for the line: each shows the lowest and the highest reading in it."""


def draw(series: nab.Series, alarms: list[int]) -> str:
    """Return one series as an SVG text."""
    rows, values = len(series), series.values
    low, high = float(values.min()), float(values.max())

    def across(row: float) -> float:
        return EDGE + row / rows * (WIDTH - 2 * EDGE)

    def up(value: float) -> float:
        return HEIGHT - EDGE - (value - low) / max(high - low, 1e-12) * (HEIGHT - 4 * EDGE)

    cuts = np.linspace(0, rows, POINTS + 1).astype(int)
    line = " ".join(
        f"{across((first + last) / 2):.1f},{up(float(edge)):.1f}"
        for first, last in itertools.pairwise(cuts.tolist())
        if last > first
        for edge in (values[first:last].min(), values[first:last].max())
    )
    calibration = across(probation(rows)) - across(0)
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<rect x="{across(0):.1f}" y="20" width="{calibration:.1f}" height="{HEIGHT - 30}" fill="#eeeeee"/>',
    ]
    parts += [
        f'<rect x="{across(first):.1f}" y="20" width="{max(across(last) - across(first), 1):.1f}" '
        f'height="{HEIGHT - 30}" fill="#ffd9a0"/>'
        for first, last in series.windows
    ]
    parts.append(f'<polyline points="{line}" fill="none" stroke="#33608c" stroke-width="0.8"/>')
    for row in alarms:
        is_right = any(first <= row <= last for first, last in series.windows)
        colour = "#1a7f37" if is_right else "#c62828"
        parts.append(f'<path d="M{across(row):.1f} 20 l-4 -8 h8 z" fill="{colour}"/>')
        parts.append(
            f'<line x1="{across(row):.1f}" x2="{across(row):.1f}" y1="20" y2="{HEIGHT - EDGE}" stroke="{colour}" '
            'stroke-dasharray="2 3" stroke-width="0.8"/>'
        )
    parts.append(f'<text x="{EDGE}" y="10">{series.name}</text></svg>')
    return "\n".join(parts) + "\n"


def main() -> None:
    """Draw the named series."""
    folder, target, *names = sys.argv[1:]
    corpus = {series.name: series for series in nab.load(Path(folder))}
    for name in names:
        series = corpus[name]
        alarms = [row for row in nab.detect(series) if row >= probation(len(series))]
        path = Path(target) / f"{Path(name).stem}.svg"
        path.write_text(draw(series, alarms), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
