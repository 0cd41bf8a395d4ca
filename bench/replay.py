"""Rates of recording and replay on this machine: `python bench/replay.py --events 1000000`, with an Apache Kafka.

In-process replay comes first and needs no broker; results of all batch sizes must be the same bytes. Then the
recording goes into a topic at full speed, and that topic is recorded again: both must hold the same events.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from lane import make_batches

from fleetwatch import topics
from fleetwatch.byte_column import ByteColumn
from fleetwatch.recording.reader import Recording, verify
from fleetwatch.recording.rows import Messages
from fleetwatch.recording.writer import RecordingWriter
from fleetwatch.settings import Settings
from streams.replay.run import run as in_process

PARTITIONS = 4


def make_recording(folder: Path, events: int, devices: int) -> None:
    next_offsets = np.zeros(PARTITIONS, np.int64)
    with RecordingWriter(folder, {topics.READINGS: PARTITIONS}) as writer:
        for batch in make_batches(devices, events, 4096):
            keys = ByteColumn.of(list(batch.keys))
            places = np.array([int(key[-3:]) % PARTITIONS for key in keys.to_list()], np.int64)
            offsets = np.zeros(len(batch), np.int64)
            for number in range(PARTITIONS):
                mine = places == number
                offsets[mine] = next_offsets[number] + np.arange(mine.sum())
                next_offsets[number] += mine.sum()
            writer.append(topics.READINGS, Messages(places, offsets, batch.times, keys, batch.values))
        writer.close()


def digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def of_recording(folder: Path, topic: str) -> str:
    """A digest of keys, values and offsets by partition."""
    found = [[hashlib.sha256() for _ in range(3)] for _ in range(PARTITIONS)]
    for rows in Recording(folder).rows(topic):
        for number in range(PARTITIONS):
            mine = rows.take(rows.partitions == number)
            for one, column in zip(
                found[number], (mine.offsets, mine.keys().buffer, mine.values().buffer), strict=True
            ):
                one.update(column.tobytes())
    return "".join(one.hexdigest() for some in found for one in some)


def run(*arguments: object, **environment: str) -> dict[str, object]:
    command = [sys.executable, "-m", "fleetwatch.cli.main", *map(str, arguments), "--json"]
    began, before = time.perf_counter(), os.times().children_user + os.times().children_system
    output = subprocess.run(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True
    ).stdout
    cpu = os.times().children_user + os.times().children_system - before
    return json.loads(output.splitlines()[-1]) | {"wall": time.perf_counter() - began, "cpu": cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--sizes", default="777,20000,100000", help="batch sizes, comma separated")
    parser.add_argument("--no-broker", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleetwatch-bench-") as name:
        folder = Path(name)
        make_recording(folder / "rec", options.events, options.devices)
        recording, digests = Recording(folder / "rec"), set()
        make_recording(folder / "small", 5000, options.devices)
        in_process(
            Recording(folder / "small"), Settings(), folder / "warm"
        )  # loads numba's compiled code: some seconds
        for size in options.sizes.split(","):
            cpu = time.process_time()
            done = in_process(recording, Settings(), folder / f"out{size}", batch_size=int(size))
            cpu = time.process_time() - cpu
            rates = f"{done.events / done.seconds:,.0f} events/s, {done.events / cpu:,.0f} a CPU-second"
            print(f"in-process, batches of {size}: {rates}")
            digests.add(digest(folder / f"out{size}"))
        print(f"results are the same bytes: {len(digests) == 1}")
        if options.no_broker:
            return
        broker = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("broker.py")), "kafka"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            servers = {"FLEETWATCH_BOOTSTRAP_SERVERS": broker.stdout.readline().strip()}
            done = run("replay", folder / "rec", "--to", "bench.", "--speed", "max", **servers)
            print(f"replay into a topic: {done['replayed'] / done['seconds']:,.0f} events/s, {done['failed']} failed")
            topic = f"bench.{topics.READINGS}"
            done = run("record", "--topics", topic, "--to", "now", "--out", folder / "again", **servers)
            rates = f"{options.events / done['wall']:,.0f} events/s, {options.events / done['cpu']:,.0f} a CPU-second"
            print(f"record: {rates}, start and end of the process included")
            same = of_recording(folder / "rec", topics.READINGS) == of_recording(folder / "again", topic)
            print(f"recorded is what was replayed: {same}, {verify(folder / 'again').events}")
        finally:
            broker.stdin.close()
            broker.wait()


if __name__ == "__main__":
    main()
