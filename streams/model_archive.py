"""Models in PostgreSQL, from where a worker on another host fetches what its own disk lacks.

The table ``model_versions`` belongs to the sinks' migrations. Nothing in the streams needs the database to be there:
what is on disk is used first, and what could not be written is tried again (``streams/model_feed.py``).
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

import psycopg

from fleetwatch.errors import TransientError
from streams.model_files import facts_of

if TYPE_CHECKING:
    from pydantic import SecretStr

    from fleetwatch.records import ModelVersion
    from fleetwatch.settings import Settings

_TIMEOUT_SECONDS: Final = 5
_PUT: Final = """
INSERT INTO model_versions (sensor_type, version, status, changed_at, trained_at, record, artefact, artefact_sha256)
VALUES (%(sensor_type)s, %(version)s, %(status)s, %(changed_at)s, %(trained_at)s, %(record)s, %(artefact)s, %(sha256)s)
ON CONFLICT (sensor_type, version) DO UPDATE
SET status = excluded.status, changed_at = excluded.changed_at, record = excluded.record, stored_at = clock_timestamp()
WHERE model_versions.changed_at < excluded.changed_at
"""
_CHANGE: Final = """
UPDATE model_versions
SET status = %(status)s, changed_at = %(changed_at)s, record = %(record)s, stored_at = clock_timestamp()
WHERE sensor_type = %(sensor_type)s AND version = %(version)s AND changed_at < %(changed_at)s
"""
_GET: Final = """
SELECT record, artefact, artefact_sha256 FROM model_versions
WHERE sensor_type = %(sensor_type)s AND version = %(version)s
"""


class ModelArchive:
    """The models of one database. Every call connects anew: there are few.

    Raises:
        TransientError: the database cannot be read or written now; the text says why.

    """

    def __init__(self, url: SecretStr) -> None:
        self._url = url

    @classmethod
    def of(cls, settings: Settings) -> ModelArchive | None:
        """Return the archive of the database that is set; None when FLEETWATCH_DATABASE_URL is not."""
        return cls(settings.database_url) if "database_url" in settings.model_fields_set else None

    def put(self, record: ModelVersion, artefact: bytes | None) -> None:
        """Store a version, or its newer status (which needs no artefact); returns when it is durable."""
        values = {
            "sensor_type": record.sensor_type,
            "version": record.version,
            "status": record.status.value,
            "changed_at": record.changed_at,
            "trained_at": record.trained_at,
            "record": json.dumps(facts_of(record)),
            "artefact": artefact,
            "sha256": hashlib.sha256(artefact or b"").hexdigest(),
        }
        try:
            with self._connect() as connection:
                connection.execute((_CHANGE if artefact is None else _PUT).encode(), values)
        except psycopg.Error as error:
            raise _translated(error) from None

    def get(self, sensor_type: str, version: str) -> tuple[dict[str, Any], bytes] | None:
        """Return what describes a version and its artefact; None when there is none, or its bytes are not its own."""
        try:
            with self._connect() as connection:
                found = connection.execute(_GET.encode(), {"sensor_type": sensor_type, "version": version}).fetchone()
        except psycopg.Error as error:
            raise _translated(error) from None
        if found is None:
            return None
        facts, artefact, sha256 = found
        return (dict(facts), artefact) if hashlib.sha256(artefact).hexdigest() == sha256 else None

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            self._url.get_secret_value(),
            connect_timeout=_TIMEOUT_SECONDS,
            application_name="fleetwatch-models",
            options=f"-c statement_timeout={_TIMEOUT_SECONDS * 1000}",
        )


def _translated(error: psycopg.Error) -> TransientError:
    if isinstance(error, psycopg.errors.UndefinedTable):
        return TransientError("the database has no table of models: run `fleetwatch sink migrate`")
    text = (error.diag.message_primary or str(error).strip() or type(error).__name__).splitlines()[0]
    return TransientError(f"the database of FLEETWATCH_DATABASE_URL: {text[:300]}")
