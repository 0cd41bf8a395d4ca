"""How long a worker needs to take over the state of a large fleet from a real Kafka: read, check, restore.

Four lanes are filled, written to the changelog as the worker writes them, with as many later checkpoints, and loaded as
on an assignment.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.lane import make_batches, new_lane
from fleetwatch import kafka, topics
from fleetwatch.local.kafka_server import KafkaServer
from fleetwatch.settings import Settings
from streams import recovery, state
from streams.lane import Lane
from streams.outbox import Outbox
from streams.state import Claim, SnapshotWriter

PARTITIONS = 4


async def write(settings: Settings, lane: Lane, extra: Any, checkpoints: int) -> float:
    """Write the lane's state for every partition several times; return the megabytes of one whole snapshot."""
    async with Outbox(settings) as outbox:
        writers = {
            number: SnapshotWriter(state.lane_key(topics.READINGS, number), Claim(1, 1)) for number in range(PARTITIONS)
        }
        size = 0
        for _ in range(checkpoints):
            for number, writer in writers.items():
                blocks = writer.write(lane.snapshot())
                size = max(size, sum(len(block) for _, block in blocks))
                outbox.send(state.blocks(blocks), number)
                await outbox.flush()
                outbox.send(state.blocks([writer.manifest(0)]), number)
            await outbox.flush()
            records = replace(extra.records, offsets=extra.records.offsets + lane.next_offset)
            lane.process(replace(extra, records=records), {})
    return size * PARTITIONS / 1e6


async def load(settings: Settings, lane: Lane) -> float:
    """Load all lanes at once, as the worker does; return the seconds."""
    began = time.monotonic()

    def one(number: int) -> Lane:
        found = recovery.find_lanes(settings, number, [topics.READINGS])[topics.READINGS]
        assert found.snapshot is not None
        return Lane.restore(topics.READINGS, number, lane.settings, found.snapshot)

    lanes = await asyncio.gather(*(asyncio.to_thread(one, number) for number in range(PARTITIONS)))
    assert all(one.names.devices.count == lane.names.devices.count for one in lanes)
    return time.monotonic() - began


def main() -> None:
    """Print the figures, or write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--checkpoints", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    each = options.devices // PARTITIONS
    batches = make_batches(each, 3 * each, 20_000)
    lane = new_lane()
    for batch in batches:
        lane.process(batch, {})
    with tempfile.TemporaryDirectory(prefix="fleetwatch-") as folder, KafkaServer(Path(folder) / "kafka") as server:
        settings = Settings(bootstrap_servers=server.bootstrap_servers)
        kafka.ensure_topics(settings)
        megabytes = asyncio.run(write(settings, lane, batches[-1], options.checkpoints))
        seconds = [asyncio.run(load(settings, lane)) for _ in range(3)]
    figures = {"devices": options.devices, "megabytes": megabytes, "seconds": float(np.median(seconds))}
    print(f"{options.devices:,} devices, {megabytes:,.0f} MB of state: taken over in {figures['seconds']:.1f} s")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
