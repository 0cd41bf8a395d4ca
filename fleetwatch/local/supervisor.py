"""``fleetwatch up``: starts the stores and every process, looks after them, drains and stops them in order.

The steps are written in ``Supervisor.run``. Started first is what the first scored reading needs, since all
import large libraries on few cores; the dashboard comes last.
"""

from __future__ import annotations

import os
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import psycopg
import redis
from confluent_kafka import KafkaException
from pydantic import SecretStr

from fleetwatch import kafka, topics
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.local import folders, plan, preflight, stores
from fleetwatch.local.faults import count_alerted, injected_before, tolerance_after
from fleetwatch.local.lag import LagReader, LagWatch, lag_over
from fleetwatch.local.live_table import Row, View
from fleetwatch.local.plan import Role, Spec
from fleetwatch.local.ports import LOOPBACK
from fleetwatch.local.processes import Fleet, run_once
from fleetwatch.local.summary import Figures
from fleetwatch.local.tail import Tail, tailed_partitions
from fleetwatch.local.tally import Tally
from fleetwatch.local.watch import Watcher, doing_of, health_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from fleetwatch.local.interrupts import Interrupts
    from fleetwatch.local.lag import Look
    from fleetwatch.local.postgres import LocalPostgres
    from fleetwatch.local.screen import Screen
    from fleetwatch.settings import Settings

TICK_SECONDS: Final = 0.2
DASHBOARD_AFTER_SECONDS: Final = 12.0
"""It starts with the first scored reading, or after so long."""
DRAIN_SECONDS: Final = 60.0
DRAIN_ON_INTERRUPT_SECONDS: Final = 10.0
QUIET_SECONDS: Final = 1.0
"""Everything must be through for so long before the pipeline counts as drained."""
EMBEDDED: Final = "embedded"
KAFKA: Final = "kafka"
FORGETS: Final = (
    "embedded broker: in memory, keeps about 5 MB (100,000 messages) of a partition and forgets all at its"
    " end; database and models stay. --broker kafka keeps everything."
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    for_seconds: float | None
    broker: str
    seed: int
    scenario: str
    producers: bool
    replayed: frozenset[str] = frozenset()
    """Devices of the recorded signal."""


class Supervisor:
    """One run, in the calling (main) thread; three more count, look at the lag, and ask for status."""

    def __init__(
        self,
        settings: Settings,
        options: Options,
        *,
        screen: Screen,
        interrupts: Interrupts,
        specs: tuple[Spec, ...] | None = None,
    ) -> None:
        self._settings = settings
        self._given = frozenset(settings.model_fields_set)
        self._database: LocalPostgres | None = None
        self._options = options
        self._screen = screen
        self._interrupts = interrupts
        self._specs = specs or plan.all_specs(seed=options.seed, scenario=options.scenario, producers=options.producers)
        self._state = settings.state_dir.absolute()
        self._logs = self._state / "logs"
        self._began = time.monotonic()
        self._run_start = datetime.now(UTC)
        self._tally = Tally(self._run_start)
        self._notices: deque[str] = deque(maxlen=100)
        self._troubles: list[str] = []
        self._has_scored = False

    def run(self) -> Figures | None:
        """Run until the time is over or somebody wants an end; return the figures if a time was given.

        Raises:
            EnvironmentProblemError: something around this process is wrong; everything is stopped again.

        """
        with ExitStack() as stack:
            self._start_broker(stack)
            self._reserve_database()
            self._fleet = Fleet(self._specs, env=self._environment(), logs=self._logs)
            stack.callback(self._fleet.kill)
            self._watch_broker(stack)
            stack.enter_context(self._watching())
            self._start(Role.STREAMS)
            self._start(Role.PRODUCER)
            producing_since = time.monotonic()
            self._start_stores(stack)
            self._say("the database and the cache are up")
            stack.callback(self._fleet.kill)  # before the stores end
            self._start(Role.SINK)
            self._start(Role.ALERTING)
            self._start(Role.GATEWAY)
            self._say(f"your devices post to {self._gateway()}/v1/readings")
            self._tick_until(self._is_time_for_dashboard)
            self._start(Role.DASHBOARD)
            self._tick_until(lambda: self._is_over(producing_since))
            figures = self._finish()
            self._say("stopping")
            self._stop(())
            self._screen.show_last(self._view())
        return figures and replace(figures, seconds=time.monotonic() - self._began)

    # --- Starting

    def _start_broker(self, stack: ExitStack) -> None:
        broker = self._options.broker
        if broker == EMBEDDED:
            from fleetwatch.local.broker import EmbeddedBroker  # noqa: PLC0415  # one of the three is needed

            servers = stack.enter_context(EmbeddedBroker()).bootstrap_servers
            headline = f"{FORGETS} Address: {servers}"
        elif broker == KAFKA:
            from fleetwatch.local.kafka_server import KafkaServer  # noqa: PLC0415

            self._say("starting Apache Kafka (the first time its jars are fetched)")
            servers = stack.enter_context(KafkaServer(self._state / "kafka")).bootstrap_servers
            headline = f"broker: Apache Kafka at {servers}, data in {self._state / 'kafka'}"
        else:
            servers = broker
            preflight.check_address(servers)
            headline = f"broker: {servers}"
        self._screen.say(headline)
        self._settings = self._settings.model_copy(
            update={"bootstrap_servers": servers, "embedded_broker": broker == EMBEDDED}
        )
        kafka.ensure_topics(self._settings)

    def _watch_broker(self, stack: ExitStack) -> None:
        """Count what comes out from here on, and keep an eye on the lag."""
        self._reader = LagReader(self._settings)
        stack.callback(self._reader.close)
        self._tail = Tail(self._settings, self._tally)
        stack.callback(self._tail.close)
        self._tail.start(tailed_partitions(self._reader.ends_when_ready()))
        self._lag = LagWatch(self._reader)
        stack.callback(self._lag.close)
        self._lag.start()

    def _watching(self) -> Watcher:
        alert = self._fleet.children.get("alert")
        return Watcher(
            self._fleet.children.values(),
            notices=alert.out_path if alert else None,
            on_notice=self._notices.append,
        )

    def _reserve_database(self) -> None:
        """Know where the database will be: workers start before it and archive models there."""
        if "database_url" not in self._given:
            from fleetwatch.local import postgres  # noqa: PLC0415  # not needed with one's own

            self._database = postgres.LocalPostgres(self._state / "postgres")
            url = SecretStr(self._database.reserve())
            self._settings = self._settings.model_copy(update={"database_url": url})

    def _start_stores(self, stack: ExitStack) -> None:
        given = self._given
        if self._database is not None:
            self._use("database_url", stack.enter_context(self._database).url)
        if "redis_url" not in given:
            from fleetwatch.local.redis_server import LocalRedis  # noqa: PLC0415  # not needed with one's own

            self._use("redis_url", stack.enter_context(LocalRedis(self._state / "redis")).url)
        migrate = Spec(name="migrate", role=Role.SINK, arguments=("sink", "migrate"))
        run_once(
            migrate.command(),
            env=self._environment(),
            log_path=self._logs / "migrate.log",
            timeout=120,
            while_waiting=self._tick,
        )
        if self._settings.embedded_broker:
            database_url, redis_url = self._store_urls()
            if "database_url" not in given:
                stores.forget_old_broker(database_url)
            if "redis_url" not in given:
                stores.empty_cache(redis_url)

    def _use(self, setting: str, url: str) -> None:
        self._settings = self._settings.model_copy(update={setting: SecretStr(url)})
        self._fleet.set_environment(self._environment())

    def _store_urls(self) -> tuple[str, str]:
        return self._settings.database_url.get_secret_value(), self._settings.redis_url.get_secret_value()

    def _environment(self) -> dict[str, str]:
        """Return what every child finds in its environment, on top of this process' own."""
        settings = self._settings
        database_url, redis_url = self._store_urls()
        models = settings.models_dir if "models_dir" in settings.model_fields_set else self._state / "models"
        one_thread = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS", "NUMBA_NUM_THREADS")
        return {
            **dict.fromkeys(one_thread, "1"),  # many processes share few cores
            "FLEETWATCH_IDLE_SECONDS": "3",  # on one machine nothing is under way for longer, and draining ends sooner
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "FLEETWATCH_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "FLEETWATCH_EMBEDDED_BROKER": str(settings.embedded_broker).lower(),
            "FLEETWATCH_DATABASE_URL": database_url,
            "FLEETWATCH_REDIS_URL": redis_url,
            "FLEETWATCH_MODELS_DIR": str(models.absolute()),
            "FLEETWATCH_STATE_DIR": str(self._state),
            "FLEETWATCH_DASHBOARD_PORT": str(settings.dashboard_port),
            "FLEETWATCH_GATEWAY_PORT": str(settings.gateway_port),
            "FLEETWATCH_HTTP_HOST": LOOPBACK,
        }

    def _names(self, *roles: Role) -> list[str]:
        return [spec.name for spec in self._specs if spec.role in roles]

    def _start(self, role: Role) -> None:
        if not self._interrupts.wanted:
            self._fleet.start(*self._names(role))

    # --- Running

    def _tick(self) -> None:
        """Look after the children and the screen once."""
        for line in self._fleet.check():
            self._say(line)
        if self._tally.scored and not self._has_scored:
            self._has_scored = True
            self._say(f"first scored reading after {time.monotonic() - self._began:.1f} s")
        if self._screen.is_due():
            self._screen.show(self._view())

    def _tick_until(self, is_over: Callable[[], bool]) -> None:
        while not is_over() and not self._interrupts.wanted:
            self._tick()
            self._interrupts.wait(TICK_SECONDS)

    def _is_time_for_dashboard(self) -> bool:
        return self._tally.scored > 0 or time.monotonic() - self._began > DASHBOARD_AFTER_SECONDS

    def _is_over(self, producing_since: float) -> bool:
        wanted = self._options.for_seconds
        return wanted is not None and time.monotonic() - producing_since >= wanted

    def _say(self, line: str) -> None:
        self._notices.append(line)
        self._screen.say(line)

    def _view(self) -> View:
        now = time.monotonic()
        look = self._lag.last
        rows = tuple(
            Row(
                name=child.spec.name,
                health=health_of(child, now),
                doing=doing_of(child),
                uptime_seconds=now - child.started_at if child.is_running else None,
                lag=look.lags.get(child.spec.group) if look and child.spec.group else None,
                restarts=child.restarts,
            )
            for child in self._fleet.children.values()
        )
        tally = self._tally
        totals = {
            "produced": self._produced(),
            "scored": tally.scored,
            "stored rows": self._fleet.total("rows_written", self._names(Role.SINK)),
            "refused": tally.dead_lettered,
            "alerts": tally.alerts_fired,
            "resolved": tally.alerts_resolved,
        }
        return View(
            rows=rows,
            totals=totals,
            notices=tuple(self._notices),
            dashboard=f"http://{LOOPBACK}:{self._settings.dashboard_port}",
            gateway=self._gateway(),
            logs=str(self._logs),
            seconds=now - self._began,
        )

    def _gateway(self) -> str:
        return f"http://{LOOPBACK}:{self._settings.gateway_port}"

    def _produced(self) -> int:
        return self._fleet.total("produced", self._names(*plan.SOURCES))

    # --- Ending

    def _finish(self) -> Figures | None:
        """Stop the producers, let everything drain, and count if figures are wanted."""
        wants_figures = self._options.for_seconds is not None
        self._say("stopping the producers")
        self._stop(self._names(*plan.SOURCES), timeout=90 if wants_figures else 15)
        stopped_at = datetime.now(UTC)
        if self._interrupts.urgent:
            self._troubles.append("stopped before everything was through")
            return None
        self._say("waiting until everything is through (Ctrl-C again does not wait)")
        self._lag.hurry()
        self._drain(DRAIN_SECONDS if wants_figures else DRAIN_ON_INTERRUPT_SECONDS, windows=wants_figures)
        return self._count(stopped_at) if wants_figures and not self._interrupts.urgent else None

    def _drain(self, timeout: float, *, windows: bool) -> None:
        """Wait until nothing is in flight and, if wanted, no window is open, for a moment on end."""
        deadline = time.monotonic() + timeout
        asked = self._interrupts.count
        last_busy = time.monotonic()
        while time.monotonic() < deadline and self._interrupts.count == asked:
            look = self._lag.last
            is_quiet = look is not None and look.total == 0 and (not windows or self._has_closed_windows())
            if not is_quiet:
                last_busy = time.monotonic()
            elif look is not None and self._oldest_news(look, windows=windows) - last_busy >= QUIET_SECONDS:
                return
            self._tick()
            self._interrupts.wait(TICK_SECONDS)

    def _has_closed_windows(self) -> bool:
        """Whether every worker answers and has no open window; old answers do not count."""
        workers = [self._fleet.children[name] for name in self._names(Role.STREAMS)]
        seen = [worker.seen for worker in workers]
        return all(page is not None and page.counters.get("open_windows", 0) == 0 for page in seen)

    def _oldest_news(self, look: Look, *, windows: bool) -> float:
        """Return when the oldest of the answers was given that say that everything is through."""
        pages = [self._fleet.children[name].seen for name in self._names(Role.STREAMS)] if windows else []
        return min([look.at, *(page.at if page is not None else 0.0 for page in pages)])

    def _count(self, stopped_at: datetime) -> Figures:
        """Ask every side for its number.

        Raises:
            EnvironmentProblemError: one of them does not answer any more.

        """
        try:
            return self._figures(stopped_at)
        except (psycopg.Error, redis.RedisError, KafkaException) as error:
            reason = str(error).strip().splitlines()[0]
            raise EnvironmentProblemError(
                f"the run cannot be counted, {type(error).__module__} says: {reason} (logs: {self._logs})"
            ) from None

    def _figures(self, stopped_at: datetime) -> Figures:
        self._wait_for_tail()
        tally, settings = self._tally, self._settings
        database_url, redis_url = self._store_urls()
        stored = stores.ask_database(database_url, since=self._run_start)
        cached = stores.ask_cache(redis_url, since=self._run_start)
        faults = injected_before(tally.faults, stopped_at)
        late = tolerance_after(window_seconds=settings.window_seconds, grace_seconds=settings.grace_seconds)
        if tally.undecodable:
            self._troubles.append(f"{tally.undecodable} messages on the output topics are not readable")
        return Figures(
            seconds=time.monotonic() - self._began,
            produced=self._produced(),
            scored=tally.scored,
            replayed_devices_scored=len(self._options.replayed & tally.scored_devices),
            stored=stored.rows,
            dead_lettered=tally.dead_lettered,
            in_flight=lag_over(topics.READ_BY, settings),
            windows_final=tally.windows_final,
            alerts_fired=tally.alerts_fired,
            alerts_resolved=tally.alerts_resolved,
            faults_injected=len(faults),
            faults_alerted=count_alerted(faults, tally.firings, late=late),
            devices=stored.devices,
            cache_devices=cached.devices,
            notified=self._fleet.total("notified", self._names(Role.ALERTING)),
            latency_ms={
                "scored": tally.scored_latency.as_dict(),
                "alert": tally.alert_latency.as_dict(),
                "database": stored.latency,
                "cache": cached.latency,
            },
            troubles=tuple(self._troubles),
        )

    def _wait_for_tail(self, timeout: float = 15.0) -> None:
        ends = tailed_partitions(self._reader.ends())
        deadline = time.monotonic() + timeout
        while not self._tail.has_reached(ends) and not self._tail.failure and time.monotonic() < deadline:
            self._interrupts.wait(TICK_SECONDS)
        if not self._tail.has_reached(ends):
            self._troubles.append(self._tail.failure or "the output topics were not read to their end in time")

    def _stop(self, names: Iterable[str], *, timeout: float = 20.0) -> None:
        """Stop these (none named: all, in order); say who had to be killed."""
        wanted = list(names)

        def on_wait() -> None:
            if self._screen.is_due():
                self._screen.show(self._view())

        stages = [wanted] if wanted else None
        killed = self._fleet.stop(stages, timeout=timeout, on_wait=on_wait, is_urgent=lambda: self._interrupts.urgent)
        for name in killed:
            self._say(f"{name} did not stop by itself and was killed (log: {self._logs / name}.log)")


def prepare(settings: Settings, options: Options) -> Path:
    """Check everything that can be checked before anything starts; return the state folder, made.

    Raises:
        EnvironmentProblemError: the first thing that is wrong.

    """
    preflight.check_python()
    preflight.check_scenario_length(options.for_seconds, producers=options.producers)
    if options.broker not in {EMBEDDED, KAFKA}:
        for address in options.broker.split(","):
            preflight.split_address(address)
    folder = folders.make_folder(settings.state_dir)
    preflight.check_disk(folder)
    folders.make_folder(folder / "logs")
    return folder
