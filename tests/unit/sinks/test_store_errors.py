"""What an error of a store means: it passes, a row is to blame, or a person must act."""

from __future__ import annotations

import psycopg
import pytest
import redis

from fleetwatch.errors import EnvironmentProblemError, FleetwatchError, TransientError
from sinks import postgres_errors, redis_cache
from sinks.store import StoreRefusedError

URL = "postgresql://joe:secret@db.example:5433/fleet"


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (psycopg.errors.UntranslatableCharacter(), StoreRefusedError),
        (psycopg.errors.NotNullViolation(), StoreRefusedError),
        (psycopg.errors.ProgramLimitExceeded(), StoreRefusedError),  # a key too long for its index
        (psycopg.DataError("cannot be adapted"), StoreRefusedError),  # psycopg's own, before it is sent
        (psycopg.errors.DiskFull(), TransientError),
        (psycopg.errors.QueryCanceled(), TransientError),  # statement time-out
        (psycopg.errors.LockNotAvailable(), TransientError),
        (psycopg.errors.DeadlockDetected(), TransientError),
        (psycopg.errors.AdminShutdown(), TransientError),
        (psycopg.errors.CannotConnectNow(), TransientError),
        (psycopg.errors.ReadOnlySqlTransaction(), TransientError),  # a standby, before it is promoted
        (psycopg.errors.InternalError_(), TransientError),
        (psycopg.OperationalError("the connection is closed"), TransientError),
        (psycopg.errors.UndefinedTable(), EnvironmentProblemError),
        (psycopg.errors.InsufficientPrivilege(), EnvironmentProblemError),
        (
            psycopg.OperationalError('FATAL: password authentication failed for user "joe"'),
            EnvironmentProblemError,
        ),
        (psycopg.OperationalError('FATAL: database "fleet" does not exist'), EnvironmentProblemError),
        (psycopg.ProgrammingError("missing = in connection string"), EnvironmentProblemError),
    ],
)
def test_postgres(error: Exception, meaning: type[FleetwatchError]):
    translated = postgres_errors.translate(error, URL)
    assert type(translated) is meaning
    assert "secret" not in str(translated)


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (redis.ConnectionError("Connection refused"), TransientError),
        (redis.TimeoutError("Timeout reading from socket"), TransientError),
        (redis.exceptions.BusyLoadingError("Redis is loading the dataset in memory"), TransientError),
        (redis.exceptions.ReadOnlyError("You can't write against a read only replica."), TransientError),
        (
            redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
            TransientError,
        ),
        (redis.exceptions.NoScriptError("No matching script."), TransientError),
        (redis.ResponseError("MISCONF Redis is configured to save RDB snapshots"), TransientError),
        (
            redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
            StoreRefusedError,
        ),
        (redis.DataError("Invalid input of type"), StoreRefusedError),
        (redis.AuthenticationError("invalid username-password pair"), EnvironmentProblemError),
        (redis.exceptions.NoPermissionError("this user has no permissions"), EnvironmentProblemError),
        (redis.ResponseError("WRONGPASS invalid username-password pair"), EnvironmentProblemError),
        (ValueError("Redis URL must specify one of the following schemes"), EnvironmentProblemError),
    ],
)
def test_redis(error: Exception, meaning: type[FleetwatchError]):
    assert type(redis_cache.translate(error, "cache.example:6379")) is meaning


def test_addresses_are_told_without_secrets():
    assert postgres_errors.where(URL) == "db.example:5433/fleet"
    assert redis_cache.where("redis://joe:secret@cache.example:6379/0") == "cache.example:6379/0"
