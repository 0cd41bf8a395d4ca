"""The hot cache: Redis. Disposable, always fresh, rebuilt from the database when it is empty.

Which write is newer is decided inside Redis by small scripts, so that two sinks or a repeated batch cannot bring an
older value back. The offsets up to which it holds everything lie in the cache itself: a Redis that lost its newest
writes is read up again from there, and one that was emptied is filled from the database and goes on at the
database's offsets. Keys: docs/sinks.md.
"""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from fleetwatch.errors import EnvironmentProblemError, FleetwatchError, TransientError
from fleetwatch.logs import get_logger
from fleetwatch.records import to_millis
from sinks.cache_writes import LAST_SEEN, calls_of
from sinks.resp import packed
from sinks.store import StoreEmptiedError, StoreRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from pydantic import SecretStr

    from sinks.batch import Partition
    from sinks.cache_writes import Argument, Call
    from sinks.stretch import Stretch

log = get_logger(__name__)

SCRIPTS: Final = ("device", "window", "alert", "offsets", "prune")
OFFSETS: Final = "sink:offsets"
UNFILLED: Final = "unfilled"
"""Field of ``sink:offsets``: what was in the database is missing here."""
PRUNED_AT_ONCE: Final = 500
CALLS_AT_ONCE: Final = 64
"""Calls sent in one piece: Redis works on them while the next ones are made."""

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


class _Incarnation(NamedTuple):
    """Which cache this is, and which run of its server: a new run may have lost what the last one had not on disk."""

    cache: str
    server: str


class RedisStore:
    """Implements ``sinks.store.Store``."""

    name = "redis"

    def __init__(
        self,
        url: SecretStr,
        *,
        fill: Callable[[RedisStore], Mapping[str, str | int] | None] | None = None,
        device_ttl: timedelta = timedelta(days=1),
    ) -> None:
        """``fill`` is called by ``open`` when the cache is empty; it returns the offsets that the filling includes.

        They are fields of ``sink:offsets``: ``cluster`` and topic/partition; without them Kafka's committed count.
        None: the database could not be read, and ``tidy`` has it tried again.
        """
        self._url = url
        self._ttl_ms = round(device_ttl.total_seconds() * 1000)
        self._fill = fill
        self._client: redis.Redis | None = None
        self._shas: dict[str, str] = {}
        self._opened = self._placed = _Incarnation("", "")

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
                single_connection_client=True,
            )
            self._client.ping()
            self._load_scripts()
            if not self._client.hexists(OFFSETS, "id"):
                start = self._fill(self) if self._fill is not None else {}
                if start is None:
                    start = {UNFILLED: 1}  # the offsets stay, if there are any
                elif start:
                    self._client.delete(OFFSETS)
                if start:
                    self._client.hset(OFFSETS, items=[part for field in start.items() for part in field])
                self._client.hsetnx(OFFSETS, "id", uuid.uuid4().hex)
            self._opened = _Incarnation(
                cache=_text(self._client.hget(OFFSETS, "id")),
                server=self._client.info("server")["run_id"],
            )
        except (redis.RedisError, ValueError) as error:
            self.close()
            raise self._translate(error) from None

    def stored_offsets(self, partitions: Iterable[Partition], cluster_id: str) -> Mapping[Partition, int] | None:
        """Return where reading goes on as far as the cache knows; None when it knows nothing: Kafka's commits count."""
        try:
            known: Mapping[bytes, bytes] = self._open_client.hgetall(OFFSETS)  # type: ignore[assignment]
        except redis.RedisError as error:
            raise self._translate(error) from None
        if _text(known.get(b"id")) != self._opened.cache:
            raise TransientError("the cache was emptied while it was opened")
        self._placed = self._opened
        if b"cluster" not in known:
            return None
        if known[b"cluster"].decode() != cluster_id:
            return {}
        wanted = {f"{topic}/{number}".encode(): (topic, number) for topic, number in partitions}
        return {wanted[place]: int(offset) for place, offset in known.items() if place in wanted}

    def forget_offset(self, partition: Partition) -> None:
        """Drop one stored offset."""
        try:
            self._open_client.hdel(OFFSETS, f"{partition[0]}/{partition[1]}")
        except redis.RedisError as error:
            raise self._translate(error) from None

    def write(self, stretch: Stretch, cluster_id: str) -> None:
        """Send the newest write of each key, and then the offsets.

        Raises:
            StoreEmptiedError: since ``stored_offsets`` was asked somebody emptied the cache, or its server started anew
                and may have lost its newest writes.

        """
        if self._opened != self._placed:
            raise StoreEmptiedError("Redis is not the one it was")
        self.put(stretch)
        offsets: list[Argument] = [self._placed.cache, cluster_id]
        for (topic, number), offset in stretch.next_offsets().items():
            offsets += [f"{topic}/{number}", offset]
        try:
            answer = self._open_client.evalsha(self._shas["offsets"], 1, OFFSETS, *offsets)
        except redis.exceptions.NoScriptError:
            raise StoreEmptiedError("Redis forgot its scripts") from None
        except redis.RedisError as error:
            raise self._translate(error) from None
        if not answer:
            raise StoreEmptiedError("the cache was emptied")

    def put(self, stretch: Stretch) -> None:
        """Send the newest write of each key."""
        calls = calls_of(stretch, time.time_ns() // 1_000_000, self._ttl_ms)
        try:
            answers = self._send(calls)
            if any(isinstance(answer, redis.exceptions.NoScriptError) for answer in answers):
                self._load_scripts()  # somebody flushed them
                answers = self._send(calls_of(stretch, time.time_ns() // 1_000_000, self._ttl_ms))
        except redis.RedisError as error:
            raise self._translate(error) from None
        errors = [self._translate(answer) for answer in answers if isinstance(answer, Exception)]
        if errors:  # what passes or needs a person goes before what one row is to blame for
            raise min(errors, key=lambda error: isinstance(error, StoreRefusedError))

    def tidy(self, now: datetime) -> dict[str, int]:
        """Let silent devices leave the cache.

        Raises:
            StoreEmptiedError: it could not be filled before, and is opened anew to try that again.

        """
        silent_since = to_millis(now) - self._ttl_ms
        gone = passed = 0
        try:
            if self._fill is not None and self._open_client.hdel(OFFSETS, UNFILLED):
                self._open_client.hdel(OFFSETS, "id")
                raise StoreEmptiedError("the cache has not been filled from the database yet")
            while True:
                left, stayed = self._open_client.evalsha(
                    self._shas["prune"], 1, LAST_SEEN, silent_since, passed, PRUNED_AT_ONCE
                )
                gone, passed = gone + int(left), passed + int(stayed)
                if left + stayed < PRUNED_AT_ONCE:
                    return {"devices": gone}
        except redis.RedisError as error:
            raise self._translate(error) from None

    def _send(self, calls: Iterable[Call]) -> list[Any]:
        """Send calls in pieces and return their answers; an error of the server is an answer too."""
        connection = self._open_client.connection
        assert connection is not None, "a client with one connection has it"
        sent, waiting = 0, iter(calls)
        while piece := list(islice(waiting, CALLS_AT_ONCE)):
            commands = [packed(self._shas[call.script], call.keys, call.arguments) for call in piece]
            connection.send_packed_command([b"".join(commands)], check_health=False)  # type: ignore[no-untyped-call]
            sent += len(piece)
        answers: list[Any] = []
        for _ in range(sent):
            try:
                answers.append(connection.read_response())
            except redis.ResponseError as error:
                answers.append(error)
        return answers

    def _load_scripts(self) -> None:
        self._shas = {name: str(self._open_client.script_load(script(name))) for name in SCRIPTS}

    def close(self) -> None:
        """Drop the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    @property
    def _open_client(self) -> redis.Redis:
        assert self._client is not None, "open() comes first"
        return self._client

    def _translate(self, error: Exception) -> FleetwatchError:
        return translate(error, where(self._url.get_secret_value()))


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


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
