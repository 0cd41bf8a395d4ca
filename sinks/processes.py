"""Wires each sink from the settings, once, and runs it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from fleetwatch import kafka, topics
from fleetwatch.errors import EnvironmentProblemError, FleetwatchError, TransientError
from fleetwatch.logs import configure_logs, get_logger
from fleetwatch.service import Service
from sinks.batch import Limits
from sinks.dead_letters import DeadLetterTopic
from sinks.retention import Retention, days
from sinks.runner import Runner, RunnerOptions
from sinks.source import KafkaSource

if TYPE_CHECKING:
    from fleetwatch.settings import Settings
    from sinks.redis_cache import RedisStore
    from sinks.store import Store

log = get_logger(__name__)


def run_timescale(settings: Settings, *, with_migration: bool = True) -> None:
    """Run the database sink until asked to stop.

    Raises:
        EnvironmentProblemError: broker or database cannot be used; the text says what to do.

    """
    from sinks.migrate import migrate  # noqa: PLC0415  # the other sink needs no SQLAlchemy
    from sinks.timescale import TimescaleStore  # noqa: PLC0415  # the other sink needs no database driver

    configure_logs(level=settings.log_level, json=settings.log_format == "json", service="sink-timescale")
    with Service("sink-timescale", host=settings.http_host, port=settings.http_port) as service:
        options = RunnerOptions(
            limits=Limits(rows=20_000, age_seconds=0.1),
            max_skew_ms=round(settings.max_skew_seconds * 1000),
            tidy_every_seconds=_tidying_seconds(settings),
        )
        store = TimescaleStore(
            settings.database_url,
            statement_seconds=settings.database_timeout_seconds,
            retention=Retention(raw=days(settings.retention_days), rollups=days(settings.rollup_retention_days)),
            device_ttl=timedelta(seconds=settings.device_ttl_seconds),
            prepare=(lambda: migrate(settings.database_url.get_secret_value())) if with_migration else None,
        )
        _run(settings, service, store, topics.GROUP_TIMESCALE, options)


def run_redis(settings: Settings, *, with_rebuild: bool = True) -> None:
    """Run the cache sink until asked to stop. Errors as of ``run_timescale``."""
    configure_logs(level=settings.log_level, json=settings.log_format == "json", service="sink-redis")
    with Service("sink-redis", host=settings.http_host, port=settings.http_port) as service:
        options = RunnerOptions(
            limits=Limits(rows=5000, age_seconds=0.03),
            max_skew_ms=round(settings.max_skew_seconds * 1000),
            answers_for_input=False,  # the database sink reads the same topics and dead-letters what is broken
            tidy_every_seconds=_tidying_seconds(settings),
        )
        _run(settings, service, _redis_store(settings, with_rebuild=with_rebuild), topics.GROUP_REDIS, options)


def rebuild_once(settings: Settings) -> int:
    """Fill the cache from the database and return the number of records read.

    Raises:
        EnvironmentProblemError: one of the two cannot be used.

    """
    from sinks.rebuild import fill_cache  # noqa: PLC0415  # needs the database driver

    configure_logs(level=settings.log_level, json=settings.log_format == "json", service="rebuild-cache")
    store = _redis_store(settings, with_rebuild=False)
    try:
        store.open()
        return fill_cache(store, settings.database_url, timedelta(seconds=settings.device_ttl_seconds)).records
    except TransientError as error:
        raise EnvironmentProblemError(str(error)) from None
    finally:
        store.close()


def _run(settings: Settings, service: Service, store: Store, group: str, options: RunnerOptions) -> None:
    service.status.doing = f"connecting to Kafka at {settings.bootstrap_servers}"
    kafka.ensure_topics(settings, (*topics.READ_BY[group], topics.DEAD_LETTERS))
    Runner(
        store=store,
        source=KafkaSource(settings, group, topics.READ_BY[group]),
        dead_letters=DeadLetterTopic(settings),
        service=service,
        options=options,
    ).run()


def _tidying_seconds(settings: Settings) -> float:
    """Return the time between two tidyings: a minute, or less where devices are to leave sooner."""
    return min(60.0, settings.device_ttl_seconds / 8)


def _redis_store(settings: Settings, *, with_rebuild: bool) -> RedisStore:
    from sinks.redis_cache import RedisStore  # noqa: PLC0415  # the other sink needs no Redis client

    def fill(store: RedisStore) -> dict[str, str | int] | None:
        from sinks.rebuild import fill_cache  # noqa: PLC0415  # needs the database driver

        try:
            return fill_cache(store, settings.database_url, timedelta(seconds=settings.device_ttl_seconds)).start
        except FleetwatchError as error:  # until it can be, the cache fills itself from Kafka as devices speak
            log.warning("cache_not_rebuilt", why=str(error))
            return None

    return RedisStore(
        settings.redis_url,
        fill=fill if with_rebuild else None,
        device_ttl=timedelta(seconds=settings.device_ttl_seconds),
    )
