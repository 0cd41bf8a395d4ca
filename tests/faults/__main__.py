"""``make faults``: every fault many times; exit code 1 when an event was lost or doubled."""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.report import as_json

if TYPE_CHECKING:
    from tests.faults.report import Outcome, Scenario

MODULES = ("tests.faults.streams", "tests.faults.sinks")


def main() -> int:
    scenarios: list[Scenario] = [found for name in MODULES for found in import_module(name).scenarios()]
    known = [name for scenario in scenarios for name in scenario.names]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50, help="how often each fault is put in")
    parser.add_argument("--json", type=Path, help="file for the outcomes")
    parser.add_argument("only", nargs="*", choices=[*known, []], help="these faults only")
    asked = parser.parse_args()
    wanted = frozenset(asked.only or known)
    outcomes: list[Outcome] = []
    for scenario in scenarios:
        if not wanted & set(scenario.names):
            continue
        began = time.monotonic()
        for outcome in scenario.run(asked.runs, wanted):
            print(f"{outcome}, {time.monotonic() - began:.0f} s", flush=True)
            outcomes.append(outcome)
            if asked.json:  # after each, so that a run that is cut short leaves what it found
                asked.json.write_text(json.dumps(as_json(outcomes), indent=1) + "\n")
    return int(any(outcome.lost or outcome.doubled for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
