"""What a run gives: the JSON form and the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench import figures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.figures import Rate


def of_rounds(
    per_cpu_second: Sequence[Mapping[str, float]], per_second: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """Return medians over the rounds, ratios within them, and the rounds themselves."""
    middle, walls = figures.medians(per_cpu_second), figures.medians(per_second)
    return {
        "all_per_cpu_second": _round(middle.get(figures.OURS)),
        "both_models_per_cpu_second": _round(middle.get(figures.BOTH)),
        "contestants": {name: round(value) for name, value in middle.items()},
        "per_second": {name: round(value) for name, value in walls.items()},
        "c_floor": _round(middle.get(figures.FLOOR)),
        "ratios": {
            "faust": figures.ratio_of(per_cpu_second, ["faust"]),
            "best_peer": figures.ratio_of(per_cpu_second, figures.FRAMEWORK_PEERS),
            "hand_loop": figures.ratio_of(per_cpu_second, [figures.HAND_LOOP]),
            "c_floor": figures.ratio_of(per_cpu_second, [figures.FLOOR]),
        },
        "rounds": {"per_cpu_second": _rounded(per_cpu_second), "per_second": _rounded(per_second)},
    }


def of_stages(rates: Mapping[str, Rate]) -> dict[str, dict[str, int]]:
    """Return the stages as they stand in the JSON."""
    return {
        name: {"per_cpu_second": round(rate.per_cpu_second), "per_second": round(rate.per_second)}
        for name, rate in rates.items()
    }


def table(result: Mapping[str, Any]) -> str:
    """Return a run as text, for people."""
    ours = result.get("all_per_cpu_second")
    lines = ["", f"{'contestant':20} {'per CPU-second':>15} {'per second':>12} {'ours is':>9}"]
    for name, value in sorted(result.get("contestants", {}).items(), key=lambda item: -item[1]):
        times = f"{ours / value:.2f} x" if ours else ""
        lines.append(f"{name:20} {value:>15,} {result['per_second'][name]:>12,} {times:>9}")
    ratios = [f"{name} {'-' if ratio is None else f'{ratio:.2f}'}" for name, ratio in result.get("ratios", {}).items()]
    if ratios:
        lines.append(f"median of the rounds' ratios: {', '.join(ratios)}")
    if result.get("stages"):
        lines += ["", f"{'stage':20} {'per CPU-second':>15} {'per second':>12} {'microseconds':>13}"]
        for name, rate in result["stages"].items():
            microseconds = 1e6 / rate["per_cpu_second"]
            lines.append(f"{name:20} {rate['per_cpu_second']:>15,} {rate['per_second']:>12,} {microseconds:>13.3f}")
    if result.get("latency_ms"):
        lines += ["", f"{'latency, ms':20} {'rate':>15} {'p50':>12} {'p99':>9} {'arrival p50':>12} {'arrival p99':>12}"]
        for name, rates in result["latency_ms"].items():
            for load, found in rates.items():
                late = "" if found["keeps_up"] else "  does not keep up"
                lines.append(
                    f"{name:12} {load:>7} {found['rate']:>15,} {found['p50']:>12,.0f} {found['p99']:>9,.0f}"
                    f" {found['arrival_p50']:>12,.0f} {found['arrival_p99']:>12,.0f}{late}"
                )
    if result.get("memory"):
        memory = result["memory"]
        lines += [
            "",
            f"a device takes {memory['bytes_per_device']:,} bytes ({memory['rss_mb']['100000']} MB with 100,000)",
            f"an event costs {memory['cost_ratio']:.2f} x with 100,000 devices what it costs with 1,000",
        ]
    if result.get("growth"):
        growth = result["growth"]
        lines += ["", f"MB after each tenth of {growth['events']:,} events: {', '.join(map(str, growth['rss_mb']))}"]
    lines += [f"WRONG OUTPUT  {text}" for text in result.get("wrong", [])]
    return "\n".join(lines)


def _round(value: float | None) -> int | None:
    return None if value is None else round(value)


def _rounded(rounds: Sequence[Mapping[str, float]]) -> list[dict[str, int]]:
    return [{name: round(value) for name, value in one.items()} for one in rounds]
