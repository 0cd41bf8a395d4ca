"""A broker of its own process for one measurement: prints its address, ends when its standard input ends."""

import sys
import tempfile
from pathlib import Path

from fleetwatch.local.broker import EmbeddedBroker
from fleetwatch.local.kafka_server import KafkaServer


def main() -> None:
    if sys.argv[1] == "kafka":
        with tempfile.TemporaryDirectory(prefix="fleetwatch-bench-") as folder, KafkaServer(Path(folder)) as server:
            print(server.bootstrap_servers, flush=True)
            sys.stdin.read()
    else:
        with EmbeddedBroker() as broker:
            print(broker.bootstrap_servers, flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    main()
