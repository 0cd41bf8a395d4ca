"""How long the gateway takes to answer, at a steady rate: `python -m bench.gateway --broker kafka --rate 500`.

Open loop: requests are due by the clock, whatever became of those before, and a latency counts from the time that a
request was due. Broker, gateway and this load generator are three processes. In the end the topic must hold as many
readings as were accepted.
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
import urllib.request
import uuid
from collections import Counter, deque
from pathlib import Path

import psutil

from bench.figures import percentile
from fleetwatch import kafka, topics
from fleetwatch.local.ports import free_port
from fleetwatch.settings import Settings
from tests.services import wait_until

BAR_MS = 50
CONNECTIONS = 200
DEVICES = 100
PATIENCE_SECONDS = 30


class Client:
    """Requests over kept connections; a new one is opened while all are in use."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()
        self._room = asyncio.Semaphore(CONNECTIONS)

    async def post(self, body: bytes) -> int:
        async with self._room:
            reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(
                b"POST /v1/readings HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            await reader.readexactly(length)
            self._idle.append((reader, writer))
            return int(head.split(b" ", 2)[1])

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


def body_of(mark: str, number: int, items: int) -> bytes:
    readings = [
        {
            "device_id": f"{mark}-{(number * items + n) % DEVICES:03}",
            "sensor_type": "temperature",
            "site": "bench",
            "value": 20.0 + n % 7,
            "unit": "Cel",
        }
        for n in range(items)
    ]
    return json.dumps(readings[0] if items == 1 else readings).encode()


async def send(port: int, mark: str, rate: float, seconds: float, items: int) -> tuple[list[float], Counter[int]]:
    """Send for so long; return latencies in ms and the number of each status code."""
    client = Client(port)
    latencies: list[float] = []
    codes: Counter[int] = Counter()

    async def one(due: float, body: bytes) -> None:
        codes[await client.post(body)] += 1
        latencies.append((time.perf_counter() - due) * 1000)

    start = time.perf_counter()
    async with asyncio.timeout(seconds + PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = start + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(due, body_of(mark, number, items)))
    client.close()
    return latencies, codes


def count(settings: Settings, mark: str) -> int:
    found = 0

    def look(message: object) -> None:
        nonlocal found
        found += message.key().startswith(mark.encode())

    kafka.read_to_end(settings, topics.READINGS, look)
    return found


def measure(broker: str, rate: float, seconds: float, items: int) -> dict[str, object]:
    mark = uuid.uuid4().hex[:8]
    log = Path(tempfile.gettempdir()) / f"fleetwatch-bench-gateway-{mark}.log"
    command = [sys.executable, str(Path(__file__).with_name("broker.py")), broker]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    gateway = None
    try:
        servers = server.stdout.readline().strip()
        settings = Settings(bootstrap_servers=servers, embedded_broker=broker == "embedded")
        kafka.ensure_topics(settings)
        port, health = free_port(), free_port()
        environment = os.environ | {
            "FLEETWATCH_BOOTSTRAP_SERVERS": servers,
            "FLEETWATCH_EMBEDDED_BROKER": str(broker == "embedded").lower(),
            "FLEETWATCH_HTTP_PORT": str(health),
        }
        with log.open("wb") as out:
            command = [sys.executable, "-m", "fleetwatch.cli.main", "gateway", "--port", str(port)]
            gateway = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
        wait_until(lambda: is_ready(health), what="the gateway being ready", timeout=60)
        asyncio.run(send(port, "warm", rate, 3, items))
        before = cpu_seconds(gateway.pid)
        latencies, codes = asyncio.run(send(port, mark, rate, seconds, items))
        spent = cpu_seconds(gateway.pid) - before
        accepted = codes[202] * items
        return {
            "broker": broker,
            "rate": rate,
            "items": items,
            "requests": len(latencies),
            "codes": dict(codes),
            "ms": {name: round(percentile(latencies, share), 1) for name, share in (("p50", 0.5), ("p99", 0.99))}
            | {"max": round(max(latencies), 1)},
            "gateway_cpu_ms_per_request": round(spent / len(latencies) * 1000, 2),
            "rss_mb": psutil.Process(gateway.pid).memory_info().rss >> 20,
            "accepted": accepted,
            "in_topic": count(settings, mark),
            "load_average": os.getloadavg()[0],
        }
    finally:
        if gateway is not None:
            gateway.terminate()
            gateway.wait(30)
        server.stdin.close()
        server.wait(30)
        log.unlink(missing_ok=True)


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", choices=["kafka", "embedded", "both"], default="both")
    parser.add_argument("--rate", type=float, default=500, help="requests a second")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--items", type=int, default=1, help="readings in a request")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    found = [
        measure(broker, options.rate, options.seconds, options.items)
        for broker in (["kafka", "embedded"] if options.broker == "both" else [options.broker])
    ]
    for run in found:
        ms = run["ms"]
        print(
            f"{run['broker']}: {run['requests']} requests at {run['rate']:g}/s, p50 {ms['p50']} ms, p99 {ms['p99']} ms "
            f"(bar: {BAR_MS} ms), max {ms['max']} ms; codes {run['codes']}, {run['accepted']} readings accepted, "
            f"{run['in_topic']} in the topic; {run['gateway_cpu_ms_per_request']} ms of CPU a request, "
            f"{run['rss_mb']} MB; load average {run['load_average']:.1f}"
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    if any(run["accepted"] != run["in_topic"] for run in found):
        sys.exit("accepted is not what is in the topic")


if __name__ == "__main__":
    main()
