"""What a PostgreSQL error means for a sink. The nature of an error is read from its SQLSTATE, never from its text.

Only failures to connect carry no SQLSTATE: for those libpq's flags and the server's English words are looked at; what
is not recognised counts as passing, with a time limit at the start.
"""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from fleetwatch.errors import EnvironmentProblemError, FleetwatchError, TransientError
from sinks.store import StoreRefusedError

_ROW_CLASSES: Final = ("22", "23", "54")
"""Data exception, constraint violation, program limit exceeded (such as a key too long for its index)."""

_PERSON: Final = {
    "28": "check user and password in FLEETWATCH_DATABASE_URL",
    "3D": "create the database or correct FLEETWATCH_DATABASE_URL",
    "42": "the tables do not fit this version: run `fleetwatch sink migrate`",
    "0A": "this server lacks a feature that is needed: see docs/sinks.md",
}
_PERSON_EXACTLY: Final = {
    "42501": "the database user lacks a right: grant it, or use the owner of the tables",
}

_REFUSED_LOGINS: Final = (
    "password authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "permission denied",
    "does not exist",
    "authentication failed",
)


def translate(error: Exception, url: str) -> FleetwatchError:  # noqa: PLR0911  # a table of decisions
    """Return the error to raise instead of one of psycopg."""
    text = first_line(error)
    state = getattr(error, "sqlstate", None)
    if state is None:
        if isinstance(error, psycopg.DataError):
            return StoreRefusedError(text)
        if isinstance(error, psycopg.ProgrammingError):
            return EnvironmentProblemError(f"FLEETWATCH_DATABASE_URL cannot be used: {text}")
        if _is_refused_login(error):
            return EnvironmentProblemError(
                f"PostgreSQL at {where(url)} refuses the connection ({text}): {_PERSON['28']}"
            )
        return TransientError(
            f"PostgreSQL at {where(url)} does not answer ({text}): start it or set FLEETWATCH_DATABASE_URL"
        )
    remedy = _PERSON_EXACTLY.get(state) or _PERSON.get(state[:2])
    if state[:2] in _ROW_CLASSES:
        return StoreRefusedError(f"{state} {text}")
    if remedy:
        return EnvironmentProblemError(f"PostgreSQL at {where(url)}: {text} ({state}): {remedy}")
    return TransientError(f"PostgreSQL at {where(url)}: {text} ({state})")


def where(url: str) -> str:
    """Return host, port and database of a URL, without the password."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        return "an address that cannot be read"
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def first_line(error: Exception) -> str:
    """Return the server's message, without the values of the row, or the first line of the text."""
    message = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return (message or str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _is_refused_login(error: Exception) -> bool:
    connection = getattr(error, "pgconn", None)
    if connection is not None and getattr(connection, "needs_password", False):
        return True
    return any(words in str(error) for words in _REFUSED_LOGINS)
