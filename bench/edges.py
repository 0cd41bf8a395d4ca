"""Cost of the two ends of the worker: what it takes to consume readings, and to produce scored records.

Consume is the production Faust application on a backlog, with lanes that only acknowledge. Produce is the production
outbox, until everything is delivered. Each is a process of its own, all of whose threads count; the broker is another.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from bench import figures
from bench.feed import KEPT_READINGS, Feeder, Fleet
from bench.measure import ROOT, BenchError, broker
from fleetwatch import kafka
from fleetwatch.logs import configure_logs
from fleetwatch.settings import Settings

if TYPE_CHECKING:
    from streams.batch import Block

CONSUMED, WARM = KEPT_READINGS, 100_000
PRODUCED, CHUNK = 400_000, 2_500


class _CountingWorker:
    """Stands where the worker stands in the application: counts and acknowledges."""

    def __init__(self) -> None:
        self.samples: list[figures.Sample] = []
        self.records = 0
        self.done = asyncio.Event()

    def assign(self, lanes: Any) -> None:
        """Nothing is to be loaded."""

    async def revoke(self, lanes: Any) -> None:
        """Nothing is held."""

    async def offsets(self, lanes: Any) -> dict[Any, int]:  # noqa: ARG002  # the worker's signature
        """Nothing was stored: the group's offsets hold."""
        return {}

    async def take(self, raw: Any, event: Any) -> None:
        self.records += len(raw)
        event.ack()
        self.samples.append(figures.Sample(self.records, time.process_time(), time.monotonic()))
        if self.records >= CONSUMED:
            self.done.set()


class _Service:
    def ready(self, text: str) -> None:
        """Nobody asks."""


async def consume(settings: Settings) -> figures.Rate:
    from streams.app import build_app  # noqa: PLC0415  # heavy; the parent process needs none of it

    worker = _CountingWorker()
    with tempfile.TemporaryDirectory(prefix="fleetwatch-bench-") as folder:
        app = build_app(settings, worker, _Service(), folder)
        await app.start()
        await asyncio.wait_for(worker.done.wait(), 60)
        await app.stop()
    rate = figures.rate(worker.samples, WARM)
    if rate is None:
        raise BenchError("nothing was consumed")
    return rate


async def produce(settings: Settings, block: Block) -> figures.Rate:
    from streams.outbox import Outbox  # noqa: PLC0415

    samples = []
    async with Outbox(settings) as outbox:
        outbox.send([block], 0)
        await outbox.flush()
        samples.append(figures.Sample(0, time.process_time(), time.monotonic()))
        for number in range(PRODUCED // CHUNK):
            outbox.send([block], number)
            await outbox.room()
            await asyncio.sleep(0)  # as between two batches of the worker: what is queued goes on its way
        await outbox.flush()
        samples.append(figures.Sample(PRODUCED, time.process_time(), time.monotonic()))
    rate = figures.rate(samples, 0)
    if rate is None:
        raise BenchError("nothing was produced")
    return rate


def measure(kind: str) -> dict[str, figures.Rate]:
    """Run both, each on a fresh broker.

    Raises:
        BenchError: one of them failed.

    """
    fleet = Fleet(1000, 5000, int(time.time() * 1000) - CONSUMED // 5)
    found = {}
    for stage in ("consume", "produce"):
        with broker(kind) as settings:
            if stage == "consume":
                Feeder(settings, fleet.readings(0, CONSUMED), CONSUMED).fill()
            command = [sys.executable, "-m", "bench.edges", stage, settings.bootstrap_servers, kind]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, check=False, cwd=ROOT, env=environment, stdout=subprocess.PIPE, timeout=120)
            if done.returncode != 0:
                raise BenchError(f"the stage {stage} failed")
            found[stage] = figures.Rate(*json.loads(done.stdout.splitlines()[-1]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("consume", "produce"))
    parser.add_argument("brokers")
    parser.add_argument("kind", choices=("embedded", "kafka"))
    options = parser.parse_args()
    configure_logs(level="warning")
    settings = Settings(bootstrap_servers=options.brokers, embedded_broker=options.kind == "embedded")
    kafka.connect(settings)
    if options.stage == "consume":
        print(json.dumps(asyncio.run(consume(settings))))
    else:
        from bench.lane import scored_block  # noqa: PLC0415

        print(json.dumps(asyncio.run(produce(settings, scored_block(1000, CHUNK)))))


if __name__ == "__main__":
    main()
