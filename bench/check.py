"""Compares what a contestant wrote with what was sent: one scored record an event, and the same window counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from measure import Contestant, Ends
from outputs import Reader

from fleetwatch import kafka, topics

if TYPE_CHECKING:
    from collections import Counter

    from fleetwatch.settings import Settings

WINDOW_MS = 10_000


def outputs(  # two readers and one list of what is wrong
    settings: Settings, contestant: Contestant, truth: Counter[tuple[str, int]]
) -> dict[str, Any]:
    """Return counts, and under "wrong" what is not as it must be.

    Ours writes final counts to ``fleet.counts``; the hand loop's is the highest running count of a window. The
    contestant has stopped, so what is counted here is all that it sent. ``truth`` is of the whole backlog.
    """
    wrong: list[str] = []
    ends = Ends(settings, contestant.output)
    scored = ends.total()
    ends.close()
    if scored != contestant.events:
        wrong.append(f"{scored} scored records of {contestant.events} events")
    found: dict[tuple[str, int], int] = {}
    kept: set[tuple[str, int, int]] = set()
    read = Reader()

    def on_scored(message: Any) -> None:
        record = read(message.value())
        kept.add((record["device_id"], record["event_time"], record["seq"]))
        if not contestant.is_ours:
            window = (record["device_id"], record["event_time"] // WINDOW_MS * WINDOW_MS)
            found[window] = max(found.get(window, 0), record["count"])

    def on_count(message: Any) -> None:
        record = read(message.value())
        if record["is_final"] and record["scope"] == "DEVICE":
            found[record["key"], record["window_start"]] = record["count"]

    readable = kafka.read_to_end(settings, contestant.output, on_scored)
    if len(kept) != readable:
        wrong.append(f"{readable - len(kept)} scored records are there twice")
    letters = 0
    if contestant.is_ours:
        kafka.read_to_end(settings, topics.COUNTS, on_count)
        dead = Ends(settings, topics.DEAD_LETTERS)
        letters = dead.total()
        dead.close()
        if letters:
            wrong.append(f"{letters} dead letters")
    differing = [window for window, count in found.items() if truth[window] != count]
    if differing:
        window = differing[0]
        example = f"{window}: {found[window]}, not {truth[window]}"
        wrong.append(f"{len(differing)} of {len(found)} window counts differ, such as {example}")
    if len(found) < len(truth) // 2:
        wrong.append(f"only {len(found)} of {len(truth)} windows were found")
    return {
        "scored": scored,
        "read_back": readable,
        "windows_equal": len(found) - len(differing),
        "windows": len(truth),
        "dead_letters": letters,
        "wrong": wrong,
    }
