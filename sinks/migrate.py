"""Brings a database to the newest schema, or back. Several processes may do so at once: they take turns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from fleetwatch.logs import get_logger
from sinks.postgres_errors import translate

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

log = get_logger(__name__)

LOCK_KEY: Final = 0x666C_6565_7477  # "fleetw": the key of the advisory lock
HEAD: Final = "head"
BASE: Final = "base"


def migrate(url: str, revision: str = HEAD) -> str:
    """Upgrade to a revision and return the one the database has then.

    Raises:
        TransientError: the server does not answer (yet).
        EnvironmentProblemError: wrong password, missing database, missing right.

    """
    return _under_lock(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str = BASE) -> str:
    """Go back to a revision; what only newer ones keep is deleted. Errors as of ``migrate``."""
    return _under_lock(url, lambda config: command.downgrade(config, revision))


def _under_lock(url: str, change: Callable[[Config], None]) -> str:
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(url, connect_timeout=5, application_name="fleetwatch-migrate"),
        poolclass=NullPool,
    )
    try:
        with engine.connect() as lock, engine.connect() as connection:
            lock.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK_KEY})
            before = _revision(connection)
            change(_config(connection))
            connection.commit()
            after = _revision(connection)
    except DBAPIError as error:
        raise translate(_cause(error), url) from None
    except psycopg.Error as error:
        raise translate(error, url) from None
    if before != after:
        log.info("database_migrated", before=before, after=after)
    return after


def _cause(error: DBAPIError) -> Exception:
    return error.orig if isinstance(error.orig, Exception) else error


def _revision(connection: Connection) -> str:
    return MigrationContext.configure(connection).get_current_revision() or BASE


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    attributes: dict[str, Any] = config.attributes
    attributes["connection"] = connection
    return config
