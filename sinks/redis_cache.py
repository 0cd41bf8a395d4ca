"""The hot cache: Redis. Disposable, always fresh, rebuilt from the database when it is empty.

Which write is newer is decided inside Redis by small scripts, so that two sinks or a repeated batch cannot bring an
older value back. Keys: docs/sinks.md.
"""

from __future__ import annotations

import time
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from fleetwatch.errors import EnvironmentProblemError, FleetwatchError, TransientError
from fleetwatch.logs import get_logger
from sinks.cache_writes import LAST_SEEN, calls_of
from sinks.store import StoreRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pydantic import SecretStr

    from sinks.batch import Item, Partition

log = get_logger(__name__)

SCRIPTS: Final = ("device", "window", "alert")

_PASSING_CODES: Final = frozenset(
    {
        "LOADING",
        "BUSY",
        "READONLY",
        "MASTERDOWN",
        "MISCONF",
        "NOREPLICAS",
        "OOM",
        "CLUSTERDOWN",
        "TRYAGAIN",
        "NOSCRIPT",
    }
)
_PERSONS_CODES: Final = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})


class RedisStore:
    """Implements ``sinks.store.Store``. Keeps no offsets: Kafka's committed ones count."""

    name = "redis"

    def __init__(self, url: SecretStr, *, fill: Callable[[RedisStore], None] | None = None) -> None:
        """``fill`` is called by ``open`` when the cache is empty."""
        self._url = url
        self._fill = fill
        self._client: redis.Redis | None = None
        self._scripts: dict[str, Any] = {}

    def open(self) -> None:
        """Connect anew; fill an empty cache.

        Raises:
            TransientError: the server does not answer (yet).
            EnvironmentProblemError: wrong password or missing right.

        """
        self.close()
        try:
            self._client = redis.Redis.from_url(
                self._url.get_secret_value(),
                socket_connect_timeout=5,
                socket_timeout=15,
                retry=Retry(NoBackoff(), 0),  # the runner waits, and stays in its group meanwhile
                client_name="fleetwatch-sink",
            )
            self._client.ping()
            self._scripts = {name: self._client.register_script(script(name)) for name in SCRIPTS}
            is_empty = not self._client.exists(LAST_SEEN)
        except (redis.RedisError, ValueError) as error:
            self.close()
            raise self._translate(error) from None
        if is_empty and self._fill is not None:
            self._fill(self)

    def stored_offsets(self, partitions: Iterable[Partition], cluster_id: str) -> None:
        """Return None: this store keeps no offsets."""

    def forget_offset(self, partition: Partition) -> None:
        """Do nothing: this store keeps no offsets."""

    def write(self, items: Sequence[Item], cluster_id: str = "") -> None:  # noqa: ARG002  # the port's
        """Send the newest write of each key in one pipeline."""
        assert self._client is not None, "open() comes first"
        calls = calls_of(items, now_ms=time.time_ns() // 1_000_000)
        if not calls:
            return
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for call in calls:
                    self._scripts[call.script](keys=call.keys, args=call.arguments, client=pipeline)
                results = pipeline.execute(raise_on_error=False)
        except redis.RedisError as error:
            raise self._translate(error) from None
        errors = [self._translate(result) for result in results if isinstance(result, Exception)]
        if errors:  # what passes or needs a person goes before what one row is to blame for
            raise min(errors, key=lambda error: isinstance(error, StoreRefusedError))

    def close(self) -> None:
        """Drop the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _translate(self, error: Exception) -> FleetwatchError:
        return translate(error, where(self._url.get_secret_value()))


def translate(error: Exception, where: str) -> FleetwatchError:  # noqa: PLR0911  # a table of decisions
    """Return the error to raise instead of one of redis-py; server errors are told apart by their code word."""
    text = (str(error) or type(error).__name__).splitlines()[0][:300]
    if isinstance(error, redis.AuthenticationError | redis.exceptions.AuthorizationError):
        return EnvironmentProblemError(f"Redis at {where} refuses the login ({text}): check FLEETWATCH_REDIS_URL")
    if isinstance(error, redis.exceptions.NoPermissionError):
        return EnvironmentProblemError(f"Redis at {where}: {text}: grant the user what docs/sinks.md lists")
    if isinstance(error, ValueError) and not isinstance(error, redis.RedisError):
        return EnvironmentProblemError(f"FLEETWATCH_REDIS_URL cannot be used: {text}")
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return TransientError(f"Redis at {where} does not answer ({text}): start it or set FLEETWATCH_REDIS_URL")
    if isinstance(error, redis.DataError):
        return StoreRefusedError(text)
    code = text.split(" ", 1)[0].strip(":")
    if code in _PERSONS_CODES:
        return EnvironmentProblemError(f"Redis at {where} refuses: {text}: check FLEETWATCH_REDIS_URL")
    is_passing = code in _PASSING_CODES or isinstance(
        error,
        redis.exceptions.OutOfMemoryError | redis.exceptions.ReadOnlyError | redis.exceptions.NoScriptError,
    )
    if isinstance(error, redis.ResponseError) and not is_passing:
        return StoreRefusedError(text)
    return TransientError(f"Redis at {where}: {text}")


def where(url: str) -> str:
    """Return the address in a URL without user and password."""
    return url.rsplit("@", 1)[-1].removeprefix("redis://").removeprefix("rediss://")


@cache
def script(name: str) -> str:
    """Return the text of a script, with what decides the order of events in front."""
    folder = files("sinks") / "lua"
    return "\n".join((folder / f"{stem}.lua").read_text(encoding="utf-8") for stem in ("order", name))
