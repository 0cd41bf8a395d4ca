"""`make soak FOR=172800`: the whole stack under a constant load, watched. docs/soak.md says what it watches.

Exit code 0: all was good; 1: something fell short, the report says what; 2: something around it is wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.soak import report
from bench.soak.canary import CanaryDevice
from bench.soak.journal import FILE, Journal, Kill, Session, Trouble, read
from bench.soak.stack import Stack, is_ready
from bench.soak.verdict import Limits
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.local.interrupts import Interrupts
from fleetwatch.local.ports import free_port

DISK_SECONDS = 60.0
LEAST_FREE_MB = 1000.0
TICK_SECONDS = 0.2
SAY_SECONDS = 60.0
SCENARIO = """\
name: soak
sites: [north, south, east, west]
sensors: {{temperature: {n}, humidity: {n}, vibration: {n}, power: {n}}}
rate_hz: 1
cameras: 8
detections_per_second: 2
day_seconds: 86400
faults:
  - {{kind: SPIKE, first_seconds: 60, every_seconds: 20}}
  - {{kind: NOISE, first_seconds: 90, every_seconds: 120}}
  - {{kind: STUCK, first_seconds: 120, every_seconds: 300, duration_seconds: 120}}
  - {{kind: DRIFT, first_seconds: 150, every_seconds: 600, duration_seconds: 300}}
  - {{kind: DROPOUT, first_seconds: 180, every_seconds: 300, duration_seconds: 60}}
  - {{kind: SURGE, first_seconds: 210, every_seconds: 600}}
"""
"""A constant load: sensors that report once a second, with a fault now and then."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--for", dest="seconds", type=float, default=3600.0, help="how long, in seconds")
    parser.add_argument("--broker", default="kafka", help="as of `fleetwatch up`")
    parser.add_argument("--folder", type=Path, help="a new one below .fleetwatch/soak if not given")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --folder, or the last one")
    parser.add_argument("--sensors", type=int, default=0, help="so many at one reading a second; else the demo's fleet")
    parser.add_argument("--every", type=float, default=5.0, help="seconds from one look to the next")
    parser.add_argument("--kill-every", type=float, help="kill a random process of ours with -9, in seconds")
    parser.add_argument("--canary-every", type=float, default=1.0, help="seconds from one reading to the next")
    parser.add_argument("--anomaly-every", type=int, default=120, help="readings from one anomaly to the next")
    parser.add_argument("--bound", type=float, help="seconds in which the canary must be everywhere: 30, with kills 90")
    parser.add_argument("--seed", type=int, default=1, help="of the fleet and of the kills")
    parser.add_argument("--report", type=Path, help="where the report goes; FOLDER/report.md if not given")
    parser.add_argument("--note", action="append", default=[], help="a sentence for the report")
    parser.add_argument("--report-only", action="store_true", help="write the report of what is there, start nothing")
    return parser.parse_args()


@dataclass
class Deadline:
    """When something is due next, by the monotonic clock."""

    every: float
    at: float

    def is_due(self) -> bool:
        """Whether it is time; the next time is set then."""
        if time.monotonic() < self.at:
            return False
        self.at = max(self.at + self.every, time.monotonic())
        return True


class Soak:
    """One session: the stack is there, and is watched until its time is over or somebody wants an end."""

    def __init__(self, options: argparse.Namespace, stack: Stack, journal: Journal, interrupts: Interrupts) -> None:
        self._options, self._stack, self._journal, self._interrupts = options, stack, journal, interrupts
        self._random = random.Random(options.seed + len(journal.run.sessions))
        self._killed: tuple[str, int, float] | None = None
        """Name, process number and time (epoch) of a killed process whose successor is not ready yet."""
        run = journal.run
        self._canary = CanaryDevice(
            stack.settings,
            first_seq=max((canary.seq for canary in run.canaries), default=-1) + 1,
            seconds=options.canary_every,
            anomaly_every=options.anomaly_every,
            bound_seconds=options.bound,
        )

    def watch(self, seconds: float) -> None:
        """Watch for so long, then wait for the canary's last readings."""
        options = self._options
        now = time.monotonic()
        end = now + seconds
        looks, disk, says = Deadline(options.every, now), Deadline(DISK_SECONDS, now), Deadline(SAY_SECONDS, now)
        kills = Deadline(options.kill_every, now + options.kill_every) if options.kill_every else None
        self._canary.start()
        try:
            while time.monotonic() < end and not self._interrupts.wanted and self._is_fine():
                if looks.is_due():
                    self._look(with_disk=disk.is_due())
                if kills is not None and self._killed is None and kills.is_due():
                    self._kill_one()
                self._follow_kill()
                if says.is_due():
                    self._say()
                self._interrupts.wait(TICK_SECONDS)
            self._finish()
        finally:
            self._canary.close()

    def _finish(self) -> None:
        """Wait for what is under way: the canary's last readings, and a killed process."""
        self._canary.stop_sending()
        deadline = time.monotonic() + self._options.bound
        while (self._canary.watch or self._killed) and time.monotonic() < deadline:
            if self._interrupts.urgent or not self._stack.is_running:
                break
            self._note_canaries()
            self._follow_kill()
            time.sleep(TICK_SECONDS)
        self._look(with_disk=True)
        if self._canary.store_problem:
            self._journal.add(Trouble(at=time.time(), text=self._canary.store_problem))
        for reading in self._canary.watch.give_up_all() if not self._interrupts.urgent else []:
            self._journal.add(reading.as_record())

    def _is_fine(self) -> bool:
        """Whether it makes sense to go on; says why not."""
        reason = self._canary.failure
        if not self._stack.is_running:
            reason = f"`fleetwatch up` ended: {self._stack.last_words()}"
        elif (free := shutil.disk_usage(self._options.folder).free / 1e6) < LEAST_FREE_MB:
            reason = f"only {free:.0f} MB are left on the disk: stopped before it is full"
        if reason:
            self._journal.add(Trouble(at=time.time(), text=reason))
            print(reason, flush=True)
        return not reason

    def _look(self, *, with_disk: bool) -> None:
        self._journal.add(self._stack.look(with_disk=with_disk))
        self._note_canaries()

    def _note_canaries(self) -> None:
        for canary in self._canary.look():
            self._journal.add(canary)

    def _say(self) -> None:
        run = self._journal.run
        if run.samples:
            print(
                f"{datetime.now(UTC):%H:%M:%S} {report.span(run.seconds)}: lag {sum(run.samples[-1].lags.values())}, "
                f"canary {len(run.canaries)}, kills {len(run.kills)}, "
                f"memory {sum(p.rss_mb for p in run.samples[-1].processes.values()):.0f} MB",
                flush=True,
            )

    # --- Killing

    def _kill_one(self) -> None:
        ours = self._stack.ours()
        name = self._random.choice(sorted(ours))
        self._killed = (name, ours[name].pid, time.time())
        ours[name].kill()
        print(f"{datetime.now(UTC):%H:%M:%S} killed {name}", flush=True)

    def _follow_kill(self) -> None:
        if self._killed is None:
            return
        name, pid, at = self._killed
        successor = self._stack.ours().get(name)
        if successor is not None and successor.pid != pid and is_ready(successor):
            self._journal.add(Kill(at=at, name=name, ready_after=round(time.time() - at, 1)))
            self._killed = None
        elif time.time() - at > self._options.bound:
            self._journal.add(Kill(at=at, name=name, ready_after=None))
            self._killed = None


def stack_arguments(options: argparse.Namespace) -> list[str]:
    """Return what `fleetwatch up` is told."""
    scenario = "demo"
    if options.sensors:
        path = options.folder / "scenario.yaml"
        path.write_text(SCENARIO.format(n=max(1, options.sensors // 4)), encoding="utf-8")
        scenario = str(path)
    port = ["--dashboard-port", str(free_port())]
    return ["--broker", options.broker, "--scenario", scenario, "--seed", str(options.seed), *port]


def choose_folder(options: argparse.Namespace) -> Path:
    """Return the folder of the run, made.

    Raises:
        EnvironmentProblemError: there is no run to go on with, or one in the way.

    """
    home = Path(".fleetwatch/soak")
    if options.folder is None and (options.resume or options.report_only):
        found = sorted(path.parent for path in home.glob(f"*/{FILE}"))
        if not found:
            raise EnvironmentProblemError(f"no run in {home}: leave --resume out")
        return found[-1].absolute()
    folder: Path = options.folder or home / f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    if (folder / FILE).exists() and not (options.resume or options.report_only):
        raise EnvironmentProblemError(f"{folder} has a run already: --resume goes on with it")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.absolute()


def soak(options: argparse.Namespace) -> None:
    """Run one session to its end."""
    journal = Journal(options.folder)
    left = options.seconds - journal.run.seconds
    try:
        with Interrupts() as interrupts:
            print(f"starting; everything is in {options.folder}", flush=True)
            with Stack(options.folder / "state", stack_arguments(options)) as stack:
                load = (
                    f"{options.sensors} sensors at 1/s and 8 cameras" if options.sensors else "the fleet of `make demo`"
                )
                journal.add(
                    Session(
                        at=time.time(),
                        broker=options.broker,
                        load=load,
                        canary_seconds=options.canary_every,
                        bound_seconds=options.bound,
                        kill_seconds=options.kill_every,
                    )
                )
                print(f"watching for {report.span(left)}; Ctrl-C ends it earlier and writes the report", flush=True)
                Soak(options, stack, journal, interrupts).watch(left)
                was_running = stack.is_running
                code = stack.stop()
                if was_running and code != 0:
                    text = f"`fleetwatch up` ended with exit code {code}: {stack.last_words()}"
                    journal.add(Trouble(at=time.time(), text=text))
    finally:
        journal.close()


def main() -> int:
    """Run, report, and return the exit code."""
    options = arguments()
    options.bound = options.bound or (90.0 if options.kill_every else 30.0)
    try:
        options.folder = choose_folder(options)
        if not options.report_only:
            soak(options)
    except EnvironmentProblemError as problem:
        print(f"soak: {problem}", file=sys.stderr)
        return 2
    run = read(options.folder)
    if not run.samples:
        print("soak: stopped before anything was seen", file=sys.stderr)
        return 1
    path = options.report or options.folder / "report.md"
    shortfalls = report.write(run, Limits(), path, notes=options.note)
    for line in shortfalls:
        print(f"soak: {line}", file=sys.stderr)
    print(f"the report is {path}")
    print(json.dumps(report.summary(run, shortfalls)))
    return 1 if shortfalls else 0


if __name__ == "__main__":
    sys.exit(main())
