"""A real Apache Kafka on loopback (KRaft, one node, broker and controller in one). Its data is kept."""

from __future__ import annotations

import base64
import fcntl
import secrets
import signal
import socket
import subprocess
import time
from typing import IO, TYPE_CHECKING, Final, Self

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.local import children, folders, ports
from fleetwatch.local.kafka_jars import jar_dir, java_command

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

START_SECONDS: Final = 90.0
STOP_SECONDS: Final = 20.0
_TELLING: Final = ("ERROR", "FATAL", "Exception", "No space", "Error")

_LOG4J = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %m (%c)%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


class KafkaServer:
    """One broker in its own folder: a context manager, or ``start`` and ``stop`` (``kill`` for fault tests).

    The port is kept for the life of the object, so that clients find the broker again after a restart. Topics
    are made on purpose only. Start it from the main thread: the kernel kills the broker when the thread that
    started it ends.
    """

    def __init__(self, data_dir: Path, port: int = 0) -> None:
        self._folder = data_dir
        self._wanted_port = port
        self.port = port
        self._controller_port = 0
        self._java = ""
        self._class_path = ""
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Address for clients."""
        return f"{ports.LOOPBACK}:{self.port}"

    @property
    def log_file(self) -> Path:
        """Where the broker's own warnings and errors of the last start are."""
        return self._folder / "kafka.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the broker on what the folder holds and wait until it answers.

        Raises:
            EnvironmentProblemError: Java or Maven missing, port taken, folder in use or not writable, or the
                broker ended; the text says which.

        """
        self._java = java_command()
        self._class_path = f"{jar_dir()}/*"
        self._folder = folders.make_folder(self._folder)
        self._take_folder()
        try:
            self._start_on_a_port()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the broker (by force when it takes too long) and give up the folder. Harmless when stopped."""
        if self._process is not None:
            children.stop(self._process, by=signal.SIGTERM, timeout=STOP_SECONDS)
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def kill(self) -> None:
        """End the broker at once (SIGKILL); ``start`` brings it back on the same port, in some 6 seconds."""
        if self._process is not None:
            children.kill_group(self._process)
            self._process.wait(STOP_SECONDS)
            self._process = None
        self.stop()

    def _take_folder(self) -> None:
        """Lock the folder for this launcher; a killed launcher's lock ends with it, as its broker does."""
        self._lock = (self._folder / "launcher.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            self._lock = None
            raise EnvironmentProblemError(
                f"another fleetwatch runs Kafka in {self._folder}: stop it, or choose another --state-dir"
            ) from None

    def _start_on_a_port(self) -> None:
        if self._wanted_port:
            ports.require_free(self._wanted_port, wanted_by="Kafka", remedy="stop what listens there")
        for attempt in range(3):  # a free port may be taken by somebody else before the broker gets it
            if not self.port or (attempt and not self._wanted_port):
                self.port = ports.free_port()
            self._controller_port = ports.free_port()
            self._write_config()
            self._format_once()
            with self.log_file.open("wb") as log:
                self._process = children.start(
                    self._java_line("-Xms128m", "-Xmx512m", main="kafka.Kafka", args=["server.properties"]),
                    log=log,
                    cwd=self._folder,
                )
            if self._wait_until_ready():
                return
            if b"Address already in use" not in self.log_file.read_bytes() or self._wanted_port:
                break
        reason = folders.last_line(self.log_file, containing=_TELLING)
        raise EnvironmentProblemError(f"Apache Kafka does not start: {reason} (log: {self.log_file})")

    def _java_line(self, *flags: str, main: str, args: list[str]) -> list[str]:
        quiet = ["-XX:+UseSerialGC", "-XX:-UsePerfData", "-Djava.awt.headless=true"]
        log_config = f"-Dlog4j2.configurationFile={self._folder / 'log4j2.properties'}"
        return [self._java, *quiet, *flags, log_config, "-cp", self._class_path, main, *args]

    def _write_config(self) -> None:
        broker, controller = self.bootstrap_servers, f"{ports.LOOPBACK}:{self._controller_port}"
        values = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{broker}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": "data",
            "num.partitions": 4,
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": 0,
            # a killed broker is let in again when its old session has ended: 9 s by default
            "broker.session.timeout.ms": 3000,
            "group.min.session.timeout.ms": 1000,
            "broker.heartbeat.interval.ms": 500,
            "min.insync.replicas": 1,
            "default.replication.factor": 1,
            # the internal topics are made for clusters by default: 50 partitions in 3 copies
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "share.coordinator.state.topic.num.partitions": 4,
            "log.retention.bytes": 1 << 30,  # of each partition: a laptop's disk
            "log.segment.bytes": 64 << 20,
            "log.cleaner.dedupe.buffer.size": 16 << 20,  # part of the heap
        }
        text = "".join(f"{name}={value}\n" for name, value in values.items())
        (self._folder / "server.properties").write_text(text)
        (self._folder / "log4j2.properties").write_text(_LOG4J)

    def _format_once(self) -> None:
        if (self._folder / "data" / "meta.properties").exists():
            return
        cluster_id = base64.urlsafe_b64encode(b"\x01" + secrets.token_bytes(15)).decode().rstrip("=")
        arguments = [
            "format",
            "--cluster-id",
            cluster_id,
            "--config",
            "server.properties",
            "--ignore-formatted",
        ]
        try:
            result = subprocess.run(  # noqa: S603  # fixed arguments, no shell
                self._java_line("-XX:TieredStopAtLevel=1", main="kafka.tools.StorageTool", args=arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=self._folder,
                timeout=START_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise EnvironmentProblemError(f"formatting Kafka's storage in {self._folder} takes too long") from None
        if result.returncode != 0:
            lines = result.stdout.strip().splitlines() or ["no message"]
            raise EnvironmentProblemError(f"cannot format Kafka's storage in {self._folder}: {lines[-1]}")

    def _wait_until_ready(self) -> bool:
        """Tell whether the broker answers in time; False also when it ended."""
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._listens() and self._leads_all_partitions():
                return True
            time.sleep(0.05)
        children.stop(self._process, by=signal.SIGTERM, timeout=5)
        return False

    def _listens(self) -> bool:
        try:
            socket.create_connection((ports.LOOPBACK, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _leads_all_partitions(self) -> bool:
        """Tell whether every topic can be used: a broker answers before it has taken its partitions up."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        try:
            cluster = admin.list_topics(timeout=2)
            wanted = {
                TopicPartition(name, number): OffsetSpec.latest()
                for name, topic in cluster.topics.items()
                for number in topic.partitions
            }
            for end in admin.list_offsets(wanted, request_timeout=2).values() if wanted else ():
                end.result(3)
        except (KafkaException, TimeoutError):
            return False
        return bool(cluster.brokers)
