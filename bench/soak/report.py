"""The report of a run: Markdown with plots beside it, ready for the docs. Pure but for ``write``."""

from __future__ import annotations

import itertools
import os
import platform
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import psutil

from bench.soak.journal import ALERT_WAYS, WAYS
from bench.soak.plots import Line, Marks, chart
from bench.soak.verdict import (
    SERVERS,
    growth_of,
    judge,
    lag_seconds,
    leak_limit,
    lives,
    memory_slopes,
    missed,
    settling_seconds,
)
from fleetwatch import topics

if TYPE_CHECKING:
    from pathlib import Path

    from bench.soak.journal import Run
    from bench.soak.verdict import Limits, Slope

INPUTS: Final = (*topics.INPUTS, topics.SCORED, topics.COUNTS, topics.ALERTS)


def write(run: Run, limits: Limits, path: Path, *, notes: list[str]) -> list[str]:
    """Write the report and its plots (in a folder of its name beside it); return what fell short."""
    shortfalls = judge(run, limits)
    plots = path.parent / path.stem
    plots.mkdir(parents=True, exist_ok=True)
    for name, text in draw(run).items():
        (plots / f"{name}.svg").write_text(text, encoding="utf-8")
    path.write_text(markdown(run, limits, shortfalls, plots=path.stem, notes=notes), encoding="utf-8")
    return shortfalls


def summary(run: Run, shortfalls: list[str]) -> dict[str, Any]:
    """Return the object that is printed as the last line."""
    bound = max((session.bound_seconds for session in run.sessions), default=0.0)
    return {
        "ok": not shortfalls,
        "seconds": round(run.seconds, 1),
        "events": sum(growth_of(run.samples, name) for name in topics.INPUTS),
        "canary": len(run.canaries),
        "canary_missed": len({c.seq for way in (*WAYS, *ALERT_WAYS) for c in missed(run.canaries, way, bound)}),
        "anomalies": sum(canary.is_anomaly for canary in run.canaries),
        "dead_letters": growth_of(run.samples, topics.DEAD_LETTERS),
        "kills": len(run.kills),
        "memory_mb_per_hour": {
            name: round(found.per_hour, 2) for name, found in memory_slopes(run).items() if found is not None
        },
        "shortfalls": shortfalls,
    }


def markdown(run: Run, limits: Limits, shortfalls: list[str], *, plots: str, notes: list[str]) -> str:
    """Return the report's text; ``plots`` is the folder of the plots."""
    began = datetime.fromtimestamp(run.sessions[0].at, UTC)
    last = run.sessions[-1]
    events = sum(growth_of(run.samples, name) for name in topics.INPUTS)
    seconds = max(run.seconds, 1e-9)
    busy = float(np.mean([sample.cpu_busy for sample in run.samples])) if run.samples else 0.0
    machine = (
        f"{os.cpu_count()} cores ({busy:.0%} busy with all that ran), {psutil.virtual_memory().total / 1e9:.0f} GB, "
        f"Python {platform.python_version()}."
    )
    what = (
        f"**{'Good' if not shortfalls else 'It fell short'}**: {span(run.seconds)} from {began:%d %B %Y, %H:%M} UTC, "
        f"{events:,} events ({events / seconds:,.0f}/s), {last.load}, broker: {last.broker}."
    )
    lines = [
        what,
        machine,
        *(f"\n{note}" for note in notes),
        "",
    ]
    if len(run.sessions) > 1:
        lines += [f"Resumed {len(run.sessions) - 1} times; pauses are left out.", ""]
    if shortfalls:
        lines += ["What fell short:", "", *(f"- {line}" for line in shortfalls), ""]
    lines += [*_canary_table(run), *_process_table(run, limits), *_lag_table(run), *_rate_table(run, seconds)]
    lines += [*_kill_table(run), *_disk_table(run)]
    for name, title in PLOTS.items():
        lines.append(f"![{title}]({plots}/{name}.svg)")
    return "\n".join(lines) + "\n"


def span(seconds: float) -> str:
    """Return a duration for people."""
    if seconds < 7200:
        return f"{seconds / 60:.1f} minutes"
    return f"{seconds / 3600:.1f} hours"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return a Markdown table with an empty line behind it."""
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)] + [""]


def _canary_table(run: Run) -> list[str]:
    bound = max(session.bound_seconds for session in run.sessions)
    rows = []
    for way in (*WAYS, *ALERT_WAYS):
        expected = [canary for canary in run.canaries if way in canary.arrived]
        seen = [seconds for canary in expected if (seconds := canary.arrived[way]) is not None]
        late = missed(run.canaries, way, bound)
        never = sum(canary.arrived[way] is None for canary in late)
        times = [f"{value:.2f}" for value in np.percentile(seen, [50, 99, 100])] if seen else ["-"] * 3
        rows.append([way, f"{len(expected):,}", f"{len(late) - never:,}", f"{never:,}", *times])
    anomalies = [canary for canary in run.canaries if canary.is_anomaly]
    noticed = sum(canary.was_noticed for canary in anomalies)
    return [
        f"The canary: a reading every {run.sessions[-1].canary_seconds:g} s, each must be everywhere in {bound:g} s.",
        "",
        *table(["arrived as", "expected", "late", "never", "p50, s", "p99, s", "longest, s"], rows),
        f"Of its {len(anomalies)} anomalies the detectors called {noticed} one too; the level rule must name all.",
        "",
    ]


def _process_table(run: Run, limits: Limits) -> list[str]:
    slopes = memory_slopes(run)
    by_name: dict[str, list[Any]] = defaultdict(list)
    for life in lives(run.samples):
        by_name[life.name].append(life)
    rows = []
    for name, all_lives in by_name.items():
        longest = max(all_lives, key=lambda life: life.seconds)
        at, process = zip(*longest.samples, strict=True)
        settled = [p.rss_mb for t, p in longest.samples if t >= at[0] + settling_seconds(longest.seconds)]
        cpu = sum(life.samples[-1][1].cpu_seconds - life.samples[0][1].cpu_seconds for life in all_lives)
        seen = sum(life.seconds for life in all_lives)
        rows.append(
            [
                name,
                f"{len(all_lives)}",
                f"{settled[0]:.0f}",
                f"{settled[-1]:.0f}",
                f"{max(p.rss_mb for life in all_lives for _, p in life.samples):.0f}",
                _slope_text(slopes[name]),
                _leak_text(name, slopes[name], limits),
                f"{cpu / max(seen, 1e-9):.0%}",
                f"{process[0].files} to {process[-1].files}",
            ]
        )
    head = [
        "process",
        "lives",
        "settled, MB",
        "at the end",
        "most",
        "growth, MB/h (95 %)",
        "limit",
        "of a core",
        "files",
    ]
    return [
        "Memory is resident; growth is the Theil-Sen slope over the longest life, without its first quarter (half an",
        "hour at most). Above its limit it is a leak; a short run can show large leaks only.",
        "",
        *table(head, rows),
    ]


def _slope_text(found: Slope | None) -> str:
    return "too short to say" if found is None else f"{found.per_hour:+.1f} ({found.low:+.1f} to {found.high:+.1f})"


def _leak_text(name: str, found: Slope | None, limits: Limits) -> str:
    if name in SERVERS:
        return "its caches fill"
    return "-" if found is None else f"{leak_limit(found, limits):.1f}"


def _lag_table(run: Run) -> list[str]:
    rows = []
    for group in topics.READ_BY:
        lags = [sample.lags[group] for sample in run.samples if group in sample.lags]
        behind = [seconds for _, seconds in lag_seconds(run, group)]
        if lags and behind:
            p50, p99, most = np.percentile(lags, [50, 99, 100])
            end = float(np.median(behind[-max(3, len(behind) // 10) :]))
            rows.append([group, f"{p50:,.0f}", f"{p99:,.0f}", f"{most:,.0f}", f"{max(behind):.1f}", f"{end:.1f}"])
    return table(["group", "lag p50, events", "p99", "most", "most, s", "at the end, s"], rows)


def _rate_table(run: Run, seconds: float) -> list[str]:
    names = (*INPUTS, topics.DEAD_LETTERS)
    rows = [[name, f"{(n := growth_of(run.samples, name)):,}", f"{n / seconds:,.1f}"] for name in names]
    return table(["topic", "events", "a second"], rows)


def _kill_table(run: Run) -> list[str]:
    if not run.kills:
        return []
    by_name: dict[str, list[float | None]] = defaultdict(list)
    for kill in run.kills:
        by_name[kill.name].append(kill.ready_after)
    rows = []
    for name, times in sorted(by_name.items()):
        back = [seconds for seconds in times if seconds is not None]
        longest = f"{max(back):.1f}" if back else "-"
        rows.append([name, f"{len(times)}", f"{len(back)}", longest])
    return table(["killed with -9", "times", "ready again", "longest, s"], rows)


def _disk_table(run: Run) -> list[str]:
    seen = [(sample.at, sample.disk_mb) for sample in run.samples if sample.disk_mb]
    if len(seen) < 2:
        return []
    (start, first), (end, last) = seen[0], seen[-1]
    rows = [
        [part, f"{first[part]:,.0f}", f"{last[part]:,.0f}", f"{(last[part] - first[part]) / (end - start) * 3600:,.0f}"]
        for part in last
        if last[part] or first.get(part)
    ]
    return table(["on disk", "first, MB", "last, MB", "MB/h"], rows)


PLOTS: Final = {
    "memory": "Memory of the processes",
    "lag": "Lag of the groups",
    "canary": "Canary: seconds until it was everywhere",
    "rates": "Events a second",
    "cpu": "Processor",
    "disk": "Disk",
}


def draw(run: Run) -> dict[str, str]:
    """Return every plot as SVG, by name."""
    killed = Marks([kill.at for kill in run.kills], "kill -9")
    memory: dict[str, Line] = defaultdict(list)
    cpu: dict[str, Line] = defaultdict(list)
    disk: dict[str, Line] = defaultdict(list)
    for sample in run.samples:
        for name, process in sample.processes.items():
            memory[name].append((sample.at, process.rss_mb))
        for part, size in sample.disk_mb.items():
            disk[part].append((sample.at, size))
    for life in lives(run.samples):
        cpu[life.name] += [
            (later, (b.cpu_seconds - a.cpu_seconds) / max(later - earlier, 1e-9))
            for (earlier, a), (later, b) in itertools.pairwise(life.samples)
        ]
    names = sorted(memory, key=lambda name: -memory[name][-1][1])  # the largest first, alike in both plots
    lag = {group.removeprefix("fleetwatch-"): lag_seconds(run, group) for group in topics.READ_BY}
    canary = {
        way: [(c.at, seconds) for c in run.canaries if (seconds := c.arrived.get(way)) is not None]
        for way in (*WAYS, *ALERT_WAYS)
    }
    rates: dict[str, Line] = {
        name: [
            (later.at, max(0, later.ends[name] - earlier.ends[name]) / max(later.at - earlier.at, 1e-9))
            for earlier, later in itertools.pairwise([s for s in run.samples if name in s.ends])
        ]
        for name in INPUTS
    }
    return {
        "memory": chart(PLOTS["memory"], "MB", {name: memory[name] for name in names}, killed),
        "lag": chart(PLOTS["lag"], "s", lag, killed),
        "canary": chart(PLOTS["canary"], "s", canary, killed, dots=True),
        "rates": chart(PLOTS["rates"], "1/s", rates, killed),
        "cpu": chart(PLOTS["cpu"], "cores", {name: sorted(cpu[name]) for name in names}, killed),
        "disk": chart(PLOTS["disk"], "MB", disk, killed),
    }
