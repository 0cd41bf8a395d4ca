"""The Faust application: one agent on the hot topics, checkpoints by time, and the worker process around it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tempfile
from typing import TYPE_CHECKING, Any, Final

from faust.types import TP

from fleetwatch import kafka, topics
from fleetwatch.errors import EnvironmentProblemError, TransientError
from fleetwatch.logs import get_logger
from streams.batch import RawBatch
from streams.detectors.half_space_trees import grow_trees
from streams.metrics import WorkerMetrics
from streams.outbox import Outbox
from streams.stall import StallGuard
from streams.transport import BatchApp, RawSchema, batch_of
from streams.worker import LaneId, Worker

if TYPE_CHECKING:
    from fleetwatch.service import Service
    from fleetwatch.settings import Settings

log = get_logger(__name__)

SESSION_SECONDS: Final = 6.0
"""A worker that is not heard for so long loses its partitions."""
ANSWER_SECONDS: Final = 3.0
"""A broker that answered no fetch for so long is not there."""
STOP_SECONDS: Final = 15.0
CHECKPOINT_SHARE: Final = 0.05
"""The part of the time that may go into taking snapshots: a large state is written less often."""
LONGEST_PAUSE_SECONDS: Final = 10.0
MAX_BATCHES: Final = 200
"""Record batches of one fetch at most, over all partitions (of hot topics; else records)."""


def build_app(settings: Settings, worker: Worker, service: Service, data_dir: str) -> BatchApp:
    """Wire the agent to the worker's lanes. Faust wants a folder of its own, though nothing of ours goes there."""
    app = BatchApp(
        topics.GROUP_STREAMS,
        hot_topics=set(topics.INPUTS),
        fetch_wait_ms=10 if settings.embedded_broker else 500,
        broker=[f"kafka://{server.strip()}" for server in settings.bootstrap_servers.split(",")],
        broker_credentials=_credentials(settings),
        consumer_auto_offset_reset="earliest",
        broker_max_poll_records=MAX_BATCHES,
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=1.5,
        broker_request_timeout=30.0,
        broker_commit_interval=0.5,
        stream_wait_empty=False,
        stream_buffer_maxsize=64,
        topic_disable_leader=True,
        topic_allow_declare=False,
        topic_partitions=settings.partitions,
        web_enabled=False,
        store="memory://",
        datadir=data_dir,
    )

    def is_caught_up(lane: LaneId, offset: int) -> bool:
        return bool(app.consumer.is_caught_up(*lane, offset, within_seconds=ANSWER_SECONDS))

    async def start_offsets(tps: set[TP]) -> dict[TP, int]:
        offsets = await worker.offsets({(tp.topic, tp.partition) for tp in tps})
        return {TP(*lane): offset for lane, offset in offsets.items()}

    worker.is_caught_up = is_caught_up
    worker.generation = lambda: app.consumer_generation_id
    app.start_offsets = start_offsets

    @app.agent(app.topic(*topics.INPUTS, schema=RawSchema()), name="lanes")
    async def lanes(stream: Any) -> None:
        async for event in stream.noack().events():
            if event.message.generation_id != app.consumer_generation_id:
                continue  # fetched before a rebalance: its partition's owner gets it again
            topic, partition, records = batch_of(event)
            await worker.take(RawBatch(topic, partition, records), event)
            event.value = event.message.value = None  # the event waits for its checkpoint, its records need not

    @app.on_partitions_assigned.connect
    async def on_assigned(_app: Any, assigned: Any, **_: Any) -> None:
        worker.assign({(tp.topic, tp.partition) for tp in assigned if tp.topic in topics.INPUTS})
        service.ready(f"serving {len(assigned)} partitions")

    @app.on_partitions_revoked.connect
    async def on_revoked(_app: Any, revoked: Any, **_: Any) -> None:
        await worker.revoke({(tp.topic, tp.partition) for tp in revoked})

    return app


def _credentials(settings: Settings) -> Any:
    if settings.security_protocol == "PLAINTEXT":
        return None
    import faust  # noqa: PLC0415  # only secured clusters need these
    from faust.types.auth import SASLMechanism  # noqa: PLC0415

    context = kafka.ssl_context(settings)
    if settings.security_protocol == "SSL":
        return faust.SSLCredentials(context)
    password = settings.sasl_password.get_secret_value() if settings.sasl_password else ""
    return faust.SASLCredentials(
        username=settings.sasl_username,
        password=password,
        mechanism=SASLMechanism(settings.sasl_mechanism),
        ssl_context=context,
    )


async def run(settings: Settings, service: Service) -> int:
    """Run one worker until the service is told to stop; return the exit code.

    Raises:
        EnvironmentProblemError: no broker answers, or rules or models folder are wrong.

    """
    kafka.ensure_topics(settings)
    with (
        tempfile.TemporaryDirectory(prefix="fleetwatch-faust-") as data_dir,
        StallGuard(SESSION_SECONDS) as guard,
    ):
        async with Outbox(settings) as outbox, Worker(settings, service, guard, outbox) as worker:
            return await _run_app(build_app(settings, worker, service, data_dir), settings, worker, service)


async def _run_app(app: BatchApp, settings: Settings, worker: Worker, service: Service) -> int:
    if settings.embedded_broker:
        log.warning("embedded_broker", note="it forgets: after its restart every device warms up again")
    service.status.doing = "joining the consumer group"
    metrics = WorkerMetrics(service.registry)
    growing = asyncio.create_task(asyncio.to_thread(grow_trees))  # imports River while the group forms
    await app.start()
    await growing
    _spare_the_collector()
    code = 0
    try:
        pause = settings.checkpoint_seconds
        while not service.stopping.is_set():
            await asyncio.sleep(pause)
            if app.should_stop:
                log.error("faust_stopped", reason=repr(getattr(app, "crash_reason", None)))
                code = 1
                break
            with metrics.checkpoint_seconds.time():
                busy = await worker.checkpoint()
            metrics.show_lag(worker.positions(), app.consumer.end_of)
            pause = min(max(settings.checkpoint_seconds, busy / CHECKPOINT_SHARE), LONGEST_PAUSE_SECONDS)
            service.status.problem = ""
        service.status.ready = False
        if code == 0:
            await worker.close()
            await app.consumer.commit()
    except TransientError as error:
        log.error("checkpoint_failed", error=str(error))  # noqa: TRY400  # the text says all
        code = 1
    finally:
        # after a stall Faust may wait for partitions that it no longer has
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(app.stop(), STOP_SECONDS)
    return code


def _spare_the_collector() -> None:
    """Keep Python's collector of cycles from going through all that was imported, again and again.

    Batches are arrays, whose end needs no collector; with the usual thresholds it ran every few of them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def main(settings: Settings, service: Service) -> int:
    """Run the worker in an event loop of its own."""
    try:
        return asyncio.run(run(settings, service))
    except EnvironmentProblemError:
        raise
    except Exception:
        log.exception("worker_failed")
        return 1
